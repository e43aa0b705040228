"""Speed of products with ternary matrices: ratios to the strongest opponents, and fractions of the machine's limits.

All arms of a task take turns in one process on one thread, in a new random order each round; each has been seen to
compute the product before it is timed. A limit of the machine, measured in the same run, is an arm like any other.

One token is timed with a matrix in the caches and with matrices from memory. Many tokens are timed with matrices from
memory, where the layers of a model lie; the full profile shows the same from the caches beside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import pytest

from harness.evidence import Evidence, Profile
from harness.opponents.products import INT8_ENGINES, DynamicInt8Product
from harness.races import Finish
from harness.subject import MultipliesTernary, Subject, require
from suites.kernel_races import MEMORY, PEAK, Task, hold, rivals
from suites.race_evidence import record_ratio, strongest
from suites.rooflines import roofline

ROUNDS: Final = {"quick": 31, "full": 61}
LLAMA: Final = "llama.cpp TQ2_0"
INT8: Final = tuple(DynamicInt8Product(engine).name for engine in INT8_ENGINES)

full_profile = pytest.mark.profile("full")
shapes = pytest.mark.parametrize(
    ("rows", "width"), [(2560, 2560), pytest.param(2560, 6912, marks=full_profile)], ids=lambda value: str(value)
)
STREAMED: Final = Task(4096, 4096, 1, streamed=True)
Hold = Callable[[Task], Finish]


@pytest.fixture(scope="module")
def finish(subject: Subject, profile: Profile, seed: int) -> Hold:
    """Run the race of a task, once."""
    multiplies = require(subject, MultipliesTernary)
    return cache(lambda task: hold(multiplies, task, rivals(task, profile), ROUNDS[profile], seed))


@pytest.mark.criterion("A.speed-gemv-cached-llama")
@shapes
def test_one_token_against_llama_cpp(finish: Hold, rows: int, width: int, evidence: Evidence) -> None:
    """The matrix stays in the caches."""
    ratio = record_ratio(evidence, finish(Task(rows, width, 1)), "over_llama_ternary", LLAMA)
    assert ratio.low <= ratio.value <= ratio.high


@pytest.mark.criterion("A.speed-gemv-cached-peak")
@shapes
def test_one_token_as_a_fraction_of_the_int8_peak(finish: Hold, rows: int, width: int, evidence: Evidence) -> None:
    """Multiply-accumulates a second over those of registers that nothing is loaded into."""
    ratio = record_ratio(evidence, finish(Task(rows, width, 1)), "fraction_of_peak", PEAK, unit="")
    assert ratio.low <= ratio.value <= ratio.high


@pytest.mark.criterion("A.speed-gemv-streaming-llama")
def test_one_token_from_memory_against_llama_cpp(finish: Hold, evidence: Evidence) -> None:
    """More matrices than any cache holds, one after the other."""
    ratio = record_ratio(evidence, finish(STREAMED), "over_llama_ternary", LLAMA)
    assert ratio.low <= ratio.value <= ratio.high


@pytest.mark.criterion("A.speed-gemv-streaming-memory")
def test_one_token_from_memory_as_a_fraction_of_its_bandwidth(finish: Hold, evidence: Evidence) -> None:
    """Weights a second, of two bits, over those that the core can read when it does nothing else."""
    ratio = record_ratio(evidence, finish(STREAMED), "fraction_of_bandwidth", MEMORY, unit="")
    assert ratio.low <= ratio.value <= ratio.high


many_tokens = pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(16, marks=pytest.mark.criterion("A.speed-gemm-16")),
        pytest.param(128, marks=pytest.mark.criterion("A.speed-gemm-128")),
    ],
)


@many_tokens
@shapes
def test_many_tokens_against_the_best_int8_of_torch(
    finish: Hold, rows: int, width: int, tokens: int, evidence: Evidence
) -> None:
    """Matrices from memory, against whichever of torch's int8 engines is faster here."""
    held = finish(Task(rows, width, tokens, streamed=True))
    best = strongest(held, INT8)
    evidence.note(f"the best int8 path: {best}")
    ratio = record_ratio(evidence, held, "over_best_int8", best)
    assert ratio.low <= ratio.value <= ratio.high


@full_profile
@many_tokens
def test_many_tokens_with_a_matrix_in_the_caches(finish: Hold, tokens: int, evidence: Evidence) -> None:
    """Beside: an int8 matrix that fits into the caches costs torch no memory, and what is left is the peak's."""
    held = finish(Task(2560, 2560, tokens))
    best = strongest(held, INT8)
    ratio = record_ratio(evidence, held, "over_best_int8_cached", best)
    if held.took_part(PEAK):
        evidence.figure("peak_over_best_int8_cached", held.rate(PEAK) / held.rate(best), "x", timing=True)
    assert ratio.low <= ratio.value <= ratio.high


@full_profile
@pytest.mark.criterion(
    "A.speed-gemv-cached-peak", "A.speed-gemv-streaming-memory", "A.speed-gemm-16", "A.speed-gemm-128"
)
def test_no_arm_is_faster_than_the_machine(finish: Hold, evidence: Evidence) -> None:
    """Rates under the roof of both limits; an arm above the peak would say that the peak was measured wrongly."""
    cached = {tokens: finish(Task(2560, 2560, tokens)) for tokens in (1, 16, 128)}
    if not cached[1].took_part(PEAK) or not finish(STREAMED).took_part(MEMORY):
        pytest.skip("; ".join(cached[1].race.absent))
    evidence.attach("roofline", roofline(cached, finish(STREAMED)))
    for held in cached.values():
        assert_under_the_roof(held)


def assert_under_the_roof(held: Finish) -> None:
    """No opponent is faster than one core can be: an arm that is has more threads than it says."""
    if held.took_part(PEAK):
        for entry in held.race.opponents:
            assert held.rate(entry.arm.name) <= 1.05 * held.rate(PEAK), f"{entry.arm.name} is faster than the peak"
