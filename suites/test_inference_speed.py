"""Inference speed: the packed artefact against the full-precision model, by a benchmark that is audited first.

All arms generate greedily, one token at a time with a key/value cache, and take turns in a new random order each round.
Each runs on one thread: threads that wait for one another make times jump wherever something else is running.
Two of them are run twice, so that equal arms are seen to come out equal, and one does its work twice over, so that a
known difference is seen at its size. Only then is the speed-up a measurement.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from jaxtyping import Int64
from torch import Tensor

from harness.evidence import Evidence
from harness.statistics import Arm, Comparison, Interval, compare, ratio_interval
from harness.texts import PROSE
from suites.fixtures_artifacts import Artifacts
from suites.fixtures_models import ReferenceModel

PROMPT_TOKENS: Final = 16
NEW_TOKENS, ROUNDS = 8, 25
FEW_NEW_TOKENS, FEW_ROUNDS = 2, 9
"""For models that take a second a token."""

CONTROL_CONFIDENCE: Final = 0.999
"""Equal arms miss 1 in one run of twenty by a 95 % interval, and in one of a thousand by this one."""
TWICE: Final = (1.8, 2.2)
"""Where the interval of an arm that does its work twice over must reach: 2, or off by 10 % at the most."""
NEAR_TIE: Final = 1e-3
"""A token counts as the likeliest one if its logit is this close to the highest, relative to the range of all logits:
one pass and a cached one round differently."""

Forward = Callable[..., Any]

benchmark_rows = pytest.mark.criterion("2.inference-benchmark", "6.important.inference-benchmark")
speed_rows = pytest.mark.criterion(
    "1.1.inference-speedup", "5.red.inference-speedup", "6.important.inference-benchmark"
)


@dataclass(frozen=True)
class Contest:
    """A model and its packed form, the prompt that both continue, and how long and how often."""

    full_precision: Any
    packed: Any
    prompt: Int64[Tensor, "1 length"]
    new_tokens: int
    rounds: int

    def arm(self, name: str, model: Any, repeats: int = 1) -> Arm:
        """A competitor that continues the prompt so many times in a row."""
        settings = {"tokens": f"{self.prompt.shape[1]} + {self.new_tokens}", "dtype": str(model.dtype), "batch": "1"}
        return Arm(name, lambda: [greedy(model, self.prompt, self.new_tokens) for _ in range(repeats)], settings)


@dataclass(frozen=True)
class Timings:
    """One interleaved run; `seconds` are the raw times by arm."""

    comparison: Comparison
    seconds: Mapping[str, list[float]]

    def ratio(self, numerator: str, denominator: str, confidence: float) -> Interval:
        """Median time of one arm over that of another, with its interval."""
        return ratio_interval(self.seconds[numerator], self.seconds[denominator], confidence)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One contest for each audited model; the quick profile holds the first one."""
    if "contest" in metafunc.fixturenames:
        audit: Any = metafunc.config.pluginmanager.get_plugin("bitnet-audit")
        full = pytest.mark.profile("full")
        params = [
            pytest.param(name, id=Path(name).name, marks=[full] if index else [])
            for index, name in enumerate(audit.models)
        ]
        metafunc.parametrize("contest", params, indirect=True, scope="module")


@pytest.fixture(scope="module")
def contest(
    request: pytest.FixtureRequest,
    load_reference: Callable[[str], ReferenceModel],
    compress_reference: Callable[[ReferenceModel], Artifacts],
) -> Iterator[Contest]:
    """An audited model and its packed artefact as the subject reloads it."""
    reference = load_reference(request.param)
    artifacts = compress_reference(reference)
    tokens = reference.tokenizer.encode(PROSE)[:PROMPT_TOKENS]
    yield Contest(
        full_precision=reference.model,
        packed=artifacts.packed,
        prompt=torch.tensor([tokens]),
        new_tokens=FEW_NEW_TOKENS if reference.large else NEW_TOKENS,
        rounds=FEW_ROUNDS if reference.large else ROUNDS,
    )
    artifacts.release()


@pytest.fixture(scope="module")
def timings(contest: Contest, seed: int) -> Timings:
    """The run, after what is timed has been seen to do its work."""
    for model in (contest.full_precision, contest.packed):
        assert_likeliest(model, contest)
    candidates = [
        contest.arm("packed", contest.packed),
        contest.arm("packed (again)", contest.packed),
        contest.arm("packed, twice", contest.packed, repeats=2),
    ]
    with one_thread():
        full_precision = contest.arm("full precision", contest.full_precision)
        comparisons, seconds = compare(full_precision, candidates, rounds=contest.rounds, seed=seed)
    return Timings(comparisons[0], seconds)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@benchmark_rows
@pytest.mark.parametrize("form", ["full_precision", "packed"])
def test_what_is_timed_is_the_models_own_continuation(contest: Contest, form: str) -> None:
    """Each generated token is the likeliest one after those before it, computed anew in one pass without a cache."""
    assert_likeliest(getattr(contest, form), contest)


@benchmark_rows
@pytest.mark.parametrize("arm", ["full precision", "packed"])
def test_equal_arms_are_measured_as_equal(timings: Timings, arm: str, evidence: Evidence) -> None:
    """An A/A run: the interval of the ratio straddles 1."""
    control = timings.ratio(arm, f"{arm} (again)", CONTROL_CONFIDENCE)
    evidence.figure("control_ratio", control.value, "x", interval=(control.low, control.high), timing=True)
    assert control.straddles(1.0), "two arms that do the same were measured as different"


@benchmark_rows
def test_twice_the_work_is_measured_as_twice_the_time(timings: Timings, evidence: Evidence) -> None:
    """A difference of known size: the interval reaches 2 within 10 %, and is nowhere near 1."""
    ratio = timings.ratio("packed, twice", "packed", CONTROL_CONFIDENCE)
    evidence.figure("twice_the_work", ratio.value, "x", interval=(ratio.low, ratio.high), timing=True)
    low, high = TWICE
    assert ratio.low <= high, "twice the work was measured as more than twice the time"
    assert low <= ratio.high, "twice the work was measured as less than twice the time"
    assert ratio.low > 1.2, "twice the work could not be told from once"


@speed_rows
def test_speedup_over_full_precision(contest: Contest, timings: Timings, evidence: Evidence) -> None:
    """Measured, whatever its size; the criterion holds both ends of the 95 % interval to its target."""
    speedup = timings.comparison.speedup
    ends = (speedup.low, speedup.high)
    evidence.figure("speedup", speedup.value, "x", interval=ends, timing=True)
    evidence.figure("speedup_ci_low", speedup.low, "x", interval=ends, timing=True)
    for name, seconds in timings.seconds.items():
        evidence.times(name, seconds)
    for name, model in (("full precision", contest.full_precision), ("packed", contest.packed)):
        settings = ", ".join(f"{key} {value}" for key, value in contest.arm(name, model).settings.items())
        evidence.note(f"{name}: {settings}, one thread, {contest.rounds} rounds")
    assert speedup.low <= speedup.value <= speedup.high


@torch.no_grad()
def greedy(model: Forward, prompt: Int64[Tensor, "1 length"], count: int) -> list[int]:
    """The likeliest token, `count` times over, each from one forward pass on the one before it."""
    tokens, cache, chosen = prompt, None, []
    for _ in range(count):
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        tokens = output.logits[:, -1:].argmax(-1)
        chosen.append(int(tokens))
    return chosen


@torch.no_grad()
def assert_likeliest(model: Forward, contest: Contest) -> None:
    """What the timed function returns is what one pass over the whole text predicts."""
    chosen = greedy(model, contest.prompt, contest.new_tokens)
    assert len(chosen) == contest.new_tokens
    text = torch.cat([contest.prompt, torch.tensor([chosen])], dim=1)
    logits = model(input_ids=text, use_cache=False).logits[0, contest.prompt.shape[1] - 1 : -1].double()
    highest, spread = logits.amax(-1), logits.amax(-1) - logits.amin(-1)
    assert torch.isfinite(logits).all(), "the logits are not finite"
    assert (spread > 0).all(), "the logits do not depend on the token"
    gap = highest - logits.gather(-1, text[0, contest.prompt.shape[1] :, None])[:, 0]
    assert (gap <= NEAR_TIE * spread).all(), "a generated token is not the likeliest one"
