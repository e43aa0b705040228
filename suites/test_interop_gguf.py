"""GGUF exports: decoded by the gguf package number by number, and run by llama.cpp where that is installed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import pytest
import torch
from jaxtyping import Float32
from torch import Tensor
from transformers import AutoTokenizer

from harness.evidence import Evidence, Profile
from harness.opponents import OpponentAbsent, llama_cpp, require_llama_cpp
from harness.subject import NotApplicable, Subject
from harness.texts import held_out_excerpt
from suites.exports import Packed, centred, exporter_of, logits_of, pack_for, spread
from suites.exports import packed_for as packed_for
from suites.exports import wide_model as wide_model
from suites.fixtures_models import ReferenceModel
from suites.stored_weights import preserved_parameters, value_at

holds_weights = pytest.mark.criterion("A.export-gguf")
runs = pytest.mark.criterion("A.llama-cpp-runs")

TOKENS: Final = 192
PROMPT: Final = 24
STEPS: Final = 24
CHARACTERS: Final = 2_000
BLOCK_PEAK: Final = 3.0
"""Largest of 32 to 256 values of a bell curve over their root mean square, about."""
ROUNDING: Final = BLOCK_PEAK / (127 * math.sqrt(12))
"""Relative error of a row of activations rounded to int8 in blocks: uniform within half a step of peak / 127."""


# --------------------------------------------------------------------------- what the file holds


@pytest.fixture(scope="module", params=["gguf", "gguf-f16"])
def written(
    request: pytest.FixtureRequest,
    subject: Subject,
    packed_for: Callable[[str], Packed],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Packed, gguf.GGUFReader]:
    """The wide model in ternary types and in F16: target, packed artefact, and the file that was written."""
    packed = packed_for("gguf")
    out = tmp_path_factory.mktemp("gguf") / "model.gguf"
    exporter_of(subject, request.param).export(packed.folder, request.param, out)
    return request.param, packed, gguf.GGUFReader(out)


def tensor_names(layers: int, names: Sequence[str]) -> dict[str, str]:
    """Names of parameters in transformers, and what llama.cpp calls them."""
    found = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    return {name: f"{found.get_name(name.rpartition('.')[0])}.{name.rpartition('.')[2]}" for name in names}


def in_ggml_order(name: str, value: Float32[Tensor, ...], packed: Packed) -> Float32[Tensor, ...]:
    """llama.cpp keeps the two numbers that a rotation mixes side by side, transformers half a head apart."""
    config = packed.plain.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return value
    return value.view(heads, 2, -1, value.shape[-1]).transpose(1, 2).reshape(value.shape)


@holds_weights
def test_every_tensor_is_decoded_to_the_packed_weights(
    written: tuple[str, Packed, gguf.GGUFReader], evidence: Evidence
) -> None:
    """All of them, and no other; quantized layers in ternary blocks where 256 divides their rows."""
    target, packed, reader = written
    stored = {tensor.name: tensor for tensor in reader.tensors}
    values = {f"{name}.weight": packed.stored(name) for name in packed.weights}
    values |= {name: value_at(packed.model, name) for name in preserved_parameters(packed.plain, packed.weights)}
    names = tensor_names(packed.plain.config.num_hidden_layers, list(values))
    assert set(names.values()) == set(stored)
    unequal, types, bits = 0, Counter[str](), [0.0]
    for name, value in values.items():
        tensor = stored[names[name]]
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        unequal += int(np.count_nonzero(decoded != in_ggml_order(name, value, packed).numpy()))
        if name.removesuffix(".weight") in packed.weights:
            types[tensor.tensor_type.name] += 1
            if target == "gguf" and value.shape[1] % 256 == 0:
                bits.append(8 * float(tensor.n_bytes) / float(tensor.n_elements))
    if target == "gguf":
        evidence.figure("bits_of_ternary_blocks", max(bits), "bits")
    evidence.figure("unequal_weights", unequal)
    evidence.note(f"{target}: " + ", ".join(f"{count} layers in {kind}" for kind, count in sorted(types.items())))


@holds_weights
def test_the_tokenizer_is_in_the_file(written: tuple[str, Packed, gguf.GGUFReader]) -> None:
    """Every token at its place."""
    _, packed, reader = written
    tokenizer = AutoTokenizer.from_pretrained(packed.folder)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert tokens == [text for text, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    assert reader.fields["tokenizer.ggml.bos_token_id"].contents() == tokenizer.bos_token_id


# --------------------------------------------------------------------------- llama.cpp


@pytest.fixture(scope="module")
def llama() -> None:
    """Skips what is about llama.cpp where it is not installed, before anything is set up for it."""
    try:
        require_llama_cpp()
    except OpponentAbsent as reason:
        pytest.skip(f"{reason}; `nox -s interop` has it")


@pytest.fixture(scope="module")
def audited(
    llama: None,
    subject: Subject,
    reference: ReferenceModel,
    profile: Profile,
    tmp_path_factory: pytest.TempPathFactory,
) -> Packed:
    """The audited model, packed for export; a large one takes a minute and is left to the full profile."""
    del llama
    if profile == "quick" and reference.large:
        raise NotApplicable(f"{reference.name} is large: exported in the full profile")
    return pack_for(subject, reference.folder, "gguf", tmp_path_factory.mktemp("for-llama") / "packed")


@pytest.fixture
def open_in_llama_cpp(
    llama: None, subject: Subject, tmp_path: Path
) -> Iterator[Callable[[Packed, str], llama_cpp.LlamaCppArm]]:
    """Export to a target and open the file; it is closed after the check."""
    del llama
    opened: list[llama_cpp.LlamaCppArm] = []

    def export_and_open(packed: Packed, target: str) -> llama_cpp.LlamaCppArm:
        out = tmp_path / f"{target}.gguf"
        exporter_of(subject, target).export(packed.folder, target, out)
        opened.append(llama_cpp.LlamaCppArm(out, target))
        return opened[-1]

    yield export_and_open
    for arm in opened:
        arm.close()


def read_text(packed: Packed, arm: llama_cpp.LlamaCppArm) -> list[int]:
    """Tokens of a held-out text, which the tokenizer in the file must give as well."""
    text = held_out_excerpt(CHARACTERS)
    tokens: list[int] = AutoTokenizer.from_pretrained(packed.folder).encode(text, add_special_tokens=False)
    assert arm.tokenize(text) == tokens, "llama.cpp splits the text into other tokens"
    return tokens[:TOKENS]


def loss(logits: Float32[Tensor, "length v"], tokens: Sequence[int]) -> float:
    """Mean negative log-likelihood of each token given those before it, in nats and float64."""
    scores = logits[:-1].double().log_softmax(-1)
    return -float(scores.gather(-1, torch.tensor(tokens)[1:, None]).mean())


def perplexity_difference(
    theirs: Float32[Tensor, "length v"], ours: Float32[Tensor, "length v"], tokens: Sequence[int]
) -> float:
    return abs(math.expm1(loss(theirs, tokens) - loss(ours, tokens)))


def judged(name: str, ours: Float32[Tensor, "length v"], tokens: Sequence[int]) -> str:
    """The figure's name; another one, which no row judges, for a model that knows less than uniform guessing.

    Such a model magnifies every rounding. One plane without compensation makes it of a large model.
    """
    knows = math.exp(loss(ours, tokens)) <= ours.shape[1]
    return name if knows else f"{name}_of_a_model_that_knows_nothing"


@runs
def test_llama_cpp_runs_the_f16_export(
    audited: Packed, open_in_llama_cpp: Callable[[Packed, str], llama_cpp.LlamaCppArm], evidence: Evidence
) -> None:
    """The same tokens in a row, and the same perplexity but for activations in float16."""
    arm = open_in_llama_cpp(audited, "gguf-f16")
    tokens = read_text(audited, arm)
    ours, theirs = logits_of(audited.plain, torch.tensor([tokens]))[0], arm.logits(tokens)
    evidence.figure(judged("f16_perplexity_difference", ours, tokens), perplexity_difference(theirs, ours, tokens))
    greedy = arm.greedy(tokens[:PROMPT], STEPS)
    sequence = torch.tensor([tokens[:PROMPT] + greedy])
    chosen = logits_of(audited.plain, sequence)[0, PROMPT - 1 : -1].argmax(-1).tolist()
    alike = [mine == its for mine, its in zip(chosen, greedy, strict=True)]
    row = alike.index(False) if False in alike else STEPS
    evidence.figure(judged("same_tokens_in_a_row", ours, tokens), row)


def noise_bound(ours: Float32[Tensor, "length v"], packed: Packed) -> float:
    """Root mean square by which rounded activations may move a logit.

    Each of a layer's two halves adds the relative error of its products to the residual stream; independent errors add
    up in squares.
    """
    return ROUNDING * math.sqrt(2 * packed.plain.config.num_hidden_layers) * spread(ours)


@runs
def test_llama_cpp_runs_the_ternary_export(
    audited: Packed, open_in_llama_cpp: Callable[[Packed, str], llama_cpp.LlamaCppArm], evidence: Evidence
) -> None:
    """Logits and perplexity as near as llama.cpp's int8 activations allow.

    Noise of size d in the logits changes a mean of N log-likelihoods by d^2 / 2 on average, and by another d / sqrt(N)
    by chance; three of these are granted.
    """
    arm = open_in_llama_cpp(audited, "gguf")
    tokens = read_text(audited, arm)
    ours, theirs = logits_of(audited.plain, torch.tensor([tokens]))[0], arm.logits(tokens)
    bound = noise_bound(ours, audited)
    evidence.figure(judged("logit_noise_of_bound", ours, tokens), spread(theirs - ours) / bound)
    granted = math.expm1(bound**2 / 2 + 3 * bound / math.sqrt(len(tokens) - 1))
    difference = perplexity_difference(theirs, ours, tokens)
    evidence.figure("ternary_perplexity_difference", difference)
    evidence.figure(judged("ternary_perplexity_difference_of_bound", ours, tokens), difference / granted)
    as_run = logits_of(audited.model, torch.tensor([tokens]))[0]
    evidence.figure("difference_from_the_packed_model_as_run", perplexity_difference(theirs, as_run, tokens))


@runs
def test_llama_cpp_runs_ternary_blocks(
    packed_for: Callable[[str], Packed],
    open_in_llama_cpp: Callable[[Packed, str], llama_cpp.LlamaCppArm],
    evidence: Evidence,
) -> None:
    """A model whose rows are of 256 weights, in ggml's ternary type."""
    packed = packed_for("gguf")
    arm = open_in_llama_cpp(packed, "gguf")
    tokens = read_text(packed, arm)
    ours, theirs = logits_of(packed.plain, torch.tensor([tokens]))[0], arm.logits(tokens)
    alike = torch.corrcoef(torch.stack([centred(ours).flatten(), centred(theirs).flatten()]))[0, 1]
    evidence.figure("logit_noise_of_bound", spread(theirs - ours) / noise_bound(ours, packed))
    assert alike > 0.99, f"the logits correlate by {alike}: this is another model"
