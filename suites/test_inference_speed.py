"""Inference speed: the packed artefact against the full-precision model, by a benchmark that is audited first.

The packed artefact runs in the subject's own decoder where it has one, else in transformers as the subject reloads it.
The full-precision model runs in transformers in float32 and in bfloat16 and, where it is installed, in llama.cpp in
float16; the strongest of 16 bits counts: llama.cpp where it is present, else the faster one in transformers.

All arms generate greedily, one token at a time with a key/value cache, and take turns in a new random order each round.
Each runs on one thread: threads that wait for one another make times jump wherever something else is running.
Two of them are run twice, so that equal arms are seen to come out equal, and one does its work twice over, so that a
known difference is seen at its size. Only then is the speed-up a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness import statistics
from harness.artefacts import HoldsArtefacts
from harness.evidence import Evidence
from harness.opponents import OpponentAbsent, llama_cpp, require_llama_cpp
from harness.opponents.decoders import SubjectArm, TextArm, TransformersArm
from harness.opponents.gguf_files import write_float16
from harness.statistics import CONTROL_CONFIDENCE, Arm, Interval
from harness.subject import DecodesPacked, Subject
from harness.texts import PROSE
from suites.fixtures_artifacts import Artifacts
from suites.fixtures_models import ReferenceModel
from suites.threads import one_thread

PROMPT_TOKENS: Final = 16
NEW_TOKENS, ROUNDS = 8, 25
FEW_NEW_TOKENS, FEW_ROUNDS = 4, 9
"""For models that take a second a token."""

FULL: Final = "full precision"
FULL_16: Final = "full precision, bfloat16"
LLAMA_16: Final = "full precision, llama.cpp F16"
PACKED: Final = "packed"

TWICE: Final = (1.8, 2.2)
"""Where the interval of an arm that does its work twice over must reach: 2, or off by 10 % at the most."""
NEAR_TIE: Final = {FULL: 1e-3, PACKED: 1e-3, FULL_16: 2.0**-5, LLAMA_16: 2.0**-5}
"""A token counts as the likeliest one if its logit is this close to the highest, relative to the range of all logits:
one pass and a cached one round differently, and arithmetic in 16 bits keeps 8 of them."""

benchmark_rows = pytest.mark.criterion("2.inference-benchmark", "6.important.inference-benchmark")
control_rows = pytest.mark.criterion("1.1.inference-speedup", "5.red.inference-speedup")
"""No speed is claimed by a run that finds a difference between equal arms."""
speed_rows = pytest.mark.criterion(
    "1.1.inference-speedup", "5.red.inference-speedup", "6.important.inference-benchmark"
)


@dataclass(frozen=True)
class Contest(HoldsArtefacts):
    """The arms by name, what is absent and why, the prompt that all continue, and how long and how often."""

    artifacts: Artifacts
    arms: Mapping[str, TextArm]
    absent: str
    prompt: tuple[int, ...]
    new_tokens: int
    rounds: int

    @property
    def artefacts(self) -> Mapping[str, Path]:
        """Those of the model that is timed."""
        return self.artifacts.artefacts

    def arm(self, name: str, label: str = "", repeats: int = 1) -> Arm:
        """A competitor that continues the prompt so many times in a row."""
        text = self.arms[name]
        settings = {"arm": text.name, "tokens": f"{len(self.prompt)} + {self.new_tokens}", "batch": "1", "threads": "1"}
        run = lambda: [text.greedy(self.prompt, self.new_tokens) for _ in range(repeats)]  # noqa: E731
        return Arm(label or name, run, settings)

    @property
    def sixteen_bits(self) -> tuple[str, ...]:
        """The arms that the strongest opponent is among."""
        return (LLAMA_16,) if LLAMA_16 in self.arms else (FULL, FULL_16)


@dataclass(frozen=True)
class Timings:
    """One interleaved run; `seconds` are the raw times by arm."""

    seconds: Mapping[str, list[float]]

    def ratio(self, numerator: str, denominator: str, confidence: float = 0.95) -> Interval:
        """Median time of one arm over that of another, with its interval."""
        return statistics.ratio_interval(self.seconds[numerator], self.seconds[denominator], confidence)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One contest for each audited model."""
    if "contest" in metafunc.fixturenames:
        audit: Any = metafunc.config.pluginmanager.get_plugin("bitnet-audit")
        params = [pytest.param(name, id=Path(name).name) for name in audit.models]
        metafunc.parametrize("contest", params, indirect=True, scope="module")


@pytest.fixture(scope="module")
def contest(
    request: pytest.FixtureRequest,
    subject: Subject,
    load_reference: Callable[[str], ReferenceModel],
    compress_reference: Callable[[ReferenceModel], Artifacts],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Contest]:
    """An audited model and its packed artefact, each in every form that takes part."""
    reference = load_reference(request.param)
    artifacts = compress_reference(reference)
    half = AutoModelForCausalLM.from_pretrained(reference.folder, dtype=torch.bfloat16).eval()
    arms: dict[str, TextArm] = {
        FULL: TransformersArm(reference.model, "transformers float32"),
        FULL_16: TransformersArm(half, "transformers bfloat16"),
        PACKED: packed_arm(subject, artifacts),
    }
    absent, llama = "", None
    try:
        arms[LLAMA_16] = llama = llama_arm(reference, tmp_path_factory.mktemp("gguf") / "f16.gguf")
    except OpponentAbsent as reason:
        absent = str(reason)
    yield Contest(
        artifacts=artifacts,
        arms=arms,
        absent=absent,
        prompt=tuple(reference.tokenizer.encode(PROSE)[:PROMPT_TOKENS]),
        new_tokens=FEW_NEW_TOKENS if reference.large else NEW_TOKENS,
        rounds=FEW_ROUNDS if reference.large else ROUNDS,
    )
    artifacts.release()
    if llama is not None:
        llama.close()


def packed_arm(subject: Subject, artifacts: Artifacts) -> TextArm:
    """The packed artefact in the subject's own decoder, where it has one, else as it reloads it for transformers."""
    if isinstance(subject, DecodesPacked):
        decoder = subject.open_decoder(artifacts.outcome.packed)
        return SubjectArm(decoder, f"the subject's decoder ({decoder.backend})")
    return TransformersArm(artifacts.packed, "the subject's model in transformers")


def llama_arm(reference: ReferenceModel, file: Path) -> llama_cpp.LlamaCppArm:
    """The full-precision model in llama.cpp, in float16; raises OpponentAbsent where that is not possible."""
    require_llama_cpp()
    config = json.loads((reference.folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "llama":
        raise OpponentAbsent(f"llama.cpp F16 is absent: no GGUF file is written for a {config['model_type']} model")
    weight = lambda layer: reference.model.get_submodule(layer).weight.detach()  # noqa: E731
    write_float16(config, weight, file)
    return llama_cpp.LlamaCppArm(file, "llama.cpp F16")


@pytest.fixture(scope="module")
def timings(contest: Contest, seed: int) -> Timings:
    """The run, after what is timed has been seen to do its work."""
    with one_thread():
        for name in contest.arms:
            assert_likeliest(contest, name)
        arms = [contest.arm(name, f"{name}{again}") for name in (FULL, PACKED) for again in ("", " (again)")]
        arms += [contest.arm(name) for name in contest.arms if name not in (FULL, PACKED)]
        arms.append(contest.arm(PACKED, f"{PACKED}, twice", repeats=2))
        return Timings(statistics.interleave(arms, contest.rounds, seed=seed))


@benchmark_rows
@pytest.mark.parametrize("form", [FULL, FULL_16, LLAMA_16, PACKED])
def test_what_is_timed_is_the_models_own_continuation(contest: Contest, form: str) -> None:
    """Each generated token is the likeliest one after those before it, computed anew in one pass without a cache."""
    if form in contest.arms:  # an arm that is absent is not timed either, and the check of the speed-up names it
        assert_likeliest(contest, form)
    else:
        assert contest.absent


@benchmark_rows
@control_rows
@pytest.mark.parametrize("arm", [FULL, PACKED])
def test_equal_arms_are_measured_as_equal(timings: Timings, arm: str, evidence: Evidence) -> None:
    """An A/A run: the interval of the ratio straddles 1."""
    control = timings.ratio(arm, f"{arm} (again)", CONTROL_CONFIDENCE)
    evidence.figure("control_ratio", control.value, "x", interval=(control.low, control.high), timing=True)
    assert control.straddles(1.0), "two arms that do the same were measured as different"


@benchmark_rows
def test_twice_the_work_is_measured_as_twice_the_time(timings: Timings, evidence: Evidence) -> None:
    """A difference of known size: the interval reaches 2 within 10 %, and is nowhere near 1."""
    ratio = timings.ratio(f"{PACKED}, twice", PACKED, CONTROL_CONFIDENCE)
    evidence.figure("twice_the_work", ratio.value, "x", interval=(ratio.low, ratio.high), timing=True)
    low, high = TWICE
    assert ratio.low <= high, "twice the work was measured as more than twice the time"
    assert low <= ratio.high, "twice the work was measured as less than twice the time"
    assert ratio.low > 1.2, "twice the work could not be told from once"


@speed_rows
def test_speedup_over_full_precision(contest: Contest, timings: Timings, evidence: Evidence) -> None:
    """Measured, whatever its size; the criterion holds both ends of the 95 % interval to its target."""
    ratios = {name: timings.ratio(name, PACKED) for name in contest.arms if name != PACKED}
    strongest = min(contest.sixteen_bits, key=lambda name: ratios[name].value)
    for name, ratio in ratios.items():
        evidence.figure(f"speedup over {name}", ratio.value, "x", interval=(ratio.low, ratio.high), timing=True)
    speedup = ratios[strongest]
    evidence.figure("speedup_ci_low", speedup.low, "x", interval=(speedup.low, speedup.high), timing=True)
    for name, seconds in timings.seconds.items():
        evidence.times(name, seconds)
    evidence.note(f"the strongest opponent of 16 bits: {', or if faster, '.join(reversed(contest.sixteen_bits))}")
    for name in contest.arms:
        settings = ", ".join(f"{key} {value}" for key, value in contest.arm(name).settings.items())
        evidence.note(f"{name}: {settings}, {contest.rounds} rounds")
    if contest.absent:
        evidence.note(contest.absent)
    assert speedup.low <= speedup.value <= speedup.high


def assert_likeliest(contest: Contest, name: str) -> None:
    """What an arm's timed function returns is what one pass over the whole text predicts."""
    arm = contest.arms[name]
    chosen = arm.greedy(contest.prompt, contest.new_tokens)
    assert len(chosen) == contest.new_tokens
    text = [*contest.prompt, *chosen]
    logits = arm.logits(text)[len(contest.prompt) - 1 : -1].double()
    highest, spread = logits.amax(-1), logits.amax(-1) - logits.amin(-1)
    assert torch.isfinite(logits).all(), "the logits are not finite"
    assert (spread > 0).all(), "the logits do not depend on the token"
    gap = highest - logits.gather(-1, torch.tensor(chosen)[:, None])[:, 0]
    assert (gap <= NEAR_TIE[name] * spread).all(), "a generated token is not the likeliest one"
