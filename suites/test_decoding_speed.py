"""Speed and memory of whole models: the subject's decoder against the strongest that others offer, on one thread.

The subject and llama.cpp's ternary form hold the same ternary weights, seen to predict alike before they are timed;
arms of 16 and 32 bits hold the model's own. All arms of a race take turns in one process, in a new random order each
round. What is absent is named, and its rows stay unmeasured: `nox -s bench` has everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from harness.evidence import Evidence, Profile
from harness.opponents import OpponentAbsent, require_llama_cpp
from harness.opponents.weights import RandomWeights
from harness.races import Finish
from harness.subject import DecodesPacked, Subject, WritesPacked, require
from harness.texts import held_out_excerpt
from suites.fixtures_models import ReferenceModel
from suites.race_evidence import attach_ratios, record_ratio, strongest
from suites.resident_memory import NEW_TOKENS as CONTINUED
from suites.resident_memory import STATUS, measure
from suites.text_races import (
    BITLINEAR,
    FP32,
    LLAMA_F16,
    LLAMA_Q4,
    LLAMA_TERNARY,
    PREFILL_TOKENS,
    PROMPT_TOKENS,
    Cast,
    real_cast,
    synthetic_cast,
)
from suites.threads import one_thread

NEW_TOKENS: Final = 16
LONG_ENOUGH: Final = 10 * PREFILL_TOKENS
"""Characters that hold so many tokens, whatever the tokenizer."""
ROUNDS: Final = {"quick": 7, "full": 11}
SMALL: Final = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}

full_profile = pytest.mark.profile("full")
against_llama_cpp = pytest.mark.usefixtures("llama")
Decode = Callable[[], Finish]


@pytest.fixture(scope="module", autouse=True)
def single() -> Iterator[None]:
    """Let torch compute on one thread, as every arm does."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def cast(
    subject: Subject,
    models: tuple[str, ...],
    load_reference: Callable[[str], ReferenceModel],
    profile: Profile,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cast]:
    """The last audited model in every form that takes part."""
    for capability in (WritesPacked, DecodesPacked):
        require(subject, capability)
    reference = load_reference(models[-1])
    tokens = reference.tokenizer.encode(held_out_excerpt(LONG_ENOUGH))[:PREFILL_TOKENS]
    folder = tmp_path_factory.mktemp("speed")
    made = real_cast(subject, reference.model, reference.folder, tokens, folder, everyone=profile == "full")
    yield made
    made.close()


@pytest.fixture(scope="module")
def decoding(cast: Cast, profile: Profile, seed: int) -> Decode:
    """The race of continuing a text, run once."""
    return cache(lambda: cast.decoding(NEW_TOKENS, ROUNDS[profile], seed))


@pytest.fixture(scope="module")
def prefill(cast: Cast, profile: Profile, seed: int) -> Decode:
    """The race of reading a prompt, run once; skipped without the opponents that its rows name."""
    return cache(lambda: cast.prefill(ROUNDS[profile], seed))


@pytest.fixture(scope="module")
def sized(
    subject: Subject, profile: Profile, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[int, Finish]]:
    """The parameters of a synthetic model and its race, run once."""

    def held(size: str) -> tuple[int, Finish]:
        made = synthetic_cast(subject, size, tmp_path_factory.mktemp("synthetic"))
        finish = made.decoding(NEW_TOKENS, ROUNDS[profile], seed)
        made.close()
        return made.parameters, finish

    return cache(held)


@pytest.fixture
def llama() -> None:
    """Skips a check that is about llama.cpp where it is not installed, before anything is set up for it."""
    try:
        require_llama_cpp()
    except OpponentAbsent as reason:
        pytest.skip(str(reason))


@pytest.mark.criterion("A.speed-decode-transformers")
def test_decoding_over_transformers(decoding: Decode, evidence: Evidence) -> None:
    """Against the full-precision model through `generate`, in float32."""
    ratio = record_ratio(evidence, decoding(), "decode_over_transformers", FP32)
    attach_ratios(evidence, decoding())
    assert ratio.low <= ratio.value <= ratio.high


@full_profile
@pytest.mark.criterion("A.speed-decode-transformers")
def test_decoding_over_the_ternary_layer_of_transformers(cast: Cast, seed: int, evidence: Evidence) -> None:
    """Against the same ternary weights in `BitLinear`, which unpacks them for every token."""
    ratio = record_ratio(evidence, cast.slow_decoding(seed), "decode_over_bitlinear", BITLINEAR)
    assert ratio.low <= ratio.value <= ratio.high


@against_llama_cpp
@pytest.mark.criterion("A.speed-decode-llama-f16")
def test_decoding_over_llama_cpp_in_16_bits(decoding: Decode, evidence: Evidence) -> None:
    """Against the full-precision model in float16."""
    ratio = record_ratio(evidence, decoding(), "decode_over_llama_f16", LLAMA_F16)
    assert ratio.low <= ratio.value <= ratio.high


@against_llama_cpp
@pytest.mark.criterion("A.speed-decode-llama-ternary")
def test_decoding_over_llama_cpp_with_ternary_weights(decoding: Decode, evidence: Evidence) -> None:
    """Against the same ternary weights as llama.cpp's quantizer stores them."""
    ratio = record_ratio(evidence, decoding(), "decode_over_llama_ternary", LLAMA_TERNARY)
    assert ratio.low <= ratio.value <= ratio.high


@against_llama_cpp
@pytest.mark.criterion("A.speed-prefill-llama-f16")
def test_a_prompt_over_llama_cpp_in_16_bits(prefill: Decode, evidence: Evidence) -> None:
    """Against the full-precision model in float16."""
    ratio = record_ratio(evidence, prefill(), "prefill_over_llama_f16", LLAMA_F16)
    attach_ratios(evidence, prefill())
    assert ratio.low <= ratio.value <= ratio.high


@against_llama_cpp
@pytest.mark.criterion("A.speed-prefill-llama-quantized")
def test_a_prompt_over_quantized_llama_cpp(prefill: Decode, evidence: Evidence) -> None:
    """Against whichever of its quantized forms is faster here."""
    best = strongest(prefill(), (LLAMA_Q4, LLAMA_TERNARY))
    ratio = record_ratio(evidence, prefill(), "prefill_over_llama_quantized", best)
    assert ratio.low <= ratio.value <= ratio.high


@full_profile
@against_llama_cpp
@pytest.mark.parametrize(
    "size",
    [
        pytest.param("0.7B", marks=pytest.mark.criterion("A.speed-decode-0.7b")),
        pytest.param("2B", marks=pytest.mark.criterion("A.speed-decode-2b")),
    ],
)
def test_decoding_at_size(sized: Callable[[str], tuple[int, Finish]], size: str, evidence: Evidence) -> None:
    """A model of random codes against llama.cpp with the same codes."""
    parameters, finish = sized(size)
    evidence.figure("parameters", parameters)
    ratio = record_ratio(evidence, finish, "decode_over_llama_ternary", LLAMA_TERNARY)
    assert ratio.low <= ratio.value <= ratio.high


@full_profile
@against_llama_cpp
@pytest.mark.criterion("A.speed-decode-0.7b", "A.speed-decode-2b")
def test_cost_grows_with_the_model(
    cast: Cast, decoding: Decode, sized: Callable[[str], tuple[int, Finish]], evidence: Evidence
) -> None:
    """Milliseconds a token against the number of weights, for the subject and for llama.cpp's ternary form."""
    measured = [(cast.parameters, decoding()), *(sized(size) for size in ("0.7B", "2B"))]
    costs = {name: [1e3 / finish.rate(name) for _, finish in measured] for name in ("subject", LLAMA_TERNARY)}
    plot: dict[str, Any] = {
        "plot": "line",
        "title": "Cost of a token against the size of the model",
        "x": [parameters / 1e9 for parameters, _ in measured],
        "y": costs,
        "x_label": "billion parameters",
        "y_label": "milliseconds a token",
        "x_scale": "log",
        "y_scale": "log",
        "timing": True,
    }
    evidence.attach("cost-against-size", plot)
    assert all(earlier < later for earlier, later in zip(costs["subject"], costs["subject"][1:], strict=False))


@pytest.mark.criterion("A.memory-resident")
@pytest.mark.skipif(not STATUS.is_file(), reason=f"resident memory is read from {STATUS}, which is not here")
def test_resident_memory_over_the_files(
    subject: Subject, cast: Cast, pytestconfig: pytest.Config, tmp_path: Path, evidence: Evidence
) -> None:
    """Growth of a fresh process that opens the packed model and continues a text, over the bytes of its files."""
    require(subject, WritesPacked).write_packed(SMALL, RandomWeights(), tmp_path / "small")
    held = measure(pytestconfig.getoption("--subject"), tmp_path / "small", cast.packed, cast.prompt[:PROMPT_TOKENS])
    evidence.figure("resident_over_files", held.ratio, "x", timing=True)
    evidence.figure("resident_bytes", held.after - held.before, timing=True)
    evidence.figure("file_bytes", held.files)
    evidence.note(
        f"after a sequence of {PROMPT_TOKENS + CONTINUED} tokens; a longer one takes more, for its keys and values"
    )
    assert held.after > held.before, "opening a model took no memory"
