"""Props that spoil the instruments which a suite measures with, and the outcome of mutants, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

import harness.races
import harness.statistics
from harness.mutants.matrix import FalseAlarm, Matrix, Trial
from harness.statistics import Interval
from suites.resident_memory import Resident

Prop = Callable[[pytest.MonkeyPatch, pytest.Config], None]
Times = dict[str, list[float]]


# --------------------------------------------------------------------------- instruments that measure wrongly


def _measured_otherwise(place: str, change: Callable[[Times], Times]) -> Prop:
    def prop(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
        right = harness.statistics.interleave
        patch.setattr(place, lambda *words, **options: change(right(*words, **options)))

    return prop


def _second_run_faster(times: Times) -> Times:
    return {name: [each * (0.9 if "again" in name else 1.0) for each in series] for name, series in times.items()}


def _overhead_beside_the_work(times: Times) -> Times:
    return {name: [each + times["packed"][0] for each in series] for name, series in times.items()}


def _work_not_waited_for(times: Times) -> Times:
    return times | {"packed, twice": times["packed"]}


def _all_alike(times: Times) -> Times:
    """A clock that does not tell small work from large."""
    return {name: [1.0 + 1e-3 * index for index, _ in enumerate(series)] for name, series in times.items()}


def no_interval(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """A ratio comes without its interval."""
    right = harness.statistics.ratio_interval

    def nothing(top: list[float], bottom: list[float], confidence: float = 0.95) -> Interval:
        measured = right(top, bottom, confidence)
        return Interval(float("nan"), float("nan"), float("nan")) if confidence == 0.95 else measured

    patch.setattr(harness.statistics, "ratio_interval", nothing)
    patch.setattr(harness.races, "ratio_interval", nothing)
    patch.setattr("suites.test_decoding_speed.attach_ratios", lambda *_: None)


def low_peak(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """The machine's limit is measured with a clock that is far too slow."""

    patch.setattr("suites.kernel_races.Peak.macs", 1.0)


def no_memory(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """The process whose memory is read never opened the model."""
    patch.setattr("suites.test_decoding_speed.measure", lambda *_: Resident(1000, 1000, 2000))


# --------------------------------------------------------------------------- outcomes of mutants


CHECKS: Final = ("test_a.py::test_one", "test_a.py::test_other")
MADE_UP: Final = Matrix(
    complete=True,
    seeds=1,
    available=2,
    trials=tuple(
        Trial(
            id=f"made-up/{check[-3:]}",
            title="Made up",
            area="made-up",
            suite="test_a.py",
            criterion="A.packing-exact",
            fate="killed",
            red={check: "assertion"},
            witness="pack(int8[1, 1], '2bit')",
            seconds=0.0,
        )
        for check in CHECKS
    ),
    checks=CHECKS,
    false_alarms=(),
    seconds=0.0,
)
"""Two mutants, each killed by one of two checks, and no false alarm."""
ALARM: Final = FalseAlarm(suite="test_a.py", area="made-up", check=CHECKS[0], seed=0, message="AssertionError")


def _outcome(change: Callable[[Matrix], Matrix]) -> Prop:
    def prop(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
        patch.setattr("suites.test_mutants.run_mutants", lambda *_: change(MADE_UP))

    return prop


def _with_first(**changes: Any) -> Callable[[Matrix], Matrix]:
    def change(matrix: Matrix) -> Matrix:
        first = matrix.trials[0].model_copy(update=changes)
        return matrix.model_copy(update={"trials": (first, *matrix.trials[1:])})

    return change


SPOILT: Final[dict[str, Prop]] = {
    "second-run-faster": _measured_otherwise("harness.statistics.interleave", _second_run_faster),
    "overhead-beside-the-work": _measured_otherwise("harness.statistics.interleave", _overhead_beside_the_work),
    "work-not-waited-for": _measured_otherwise("harness.statistics.interleave", _work_not_waited_for),
    "race-second-run-faster": _measured_otherwise("harness.races.interleave", _second_run_faster),
    "race-all-alike": _measured_otherwise("harness.races.interleave", _all_alike),
    "no-interval": no_interval,
    "low-peak": low_peak,
    "no-memory": no_memory,
    "made-up-mutants": _outcome(lambda matrix: matrix),
    "a-sample": _outcome(lambda matrix: matrix.model_copy(update={"complete": False, "available": 388})),
    "a-survivor": _outcome(_with_first(fate="survived")),
    "an-equal-mutant": _outcome(_with_first(fate="equal", witness=None)),
    "an-idle-check": _outcome(lambda matrix: matrix.model_copy(update={"checks": (*CHECKS, "test_a.py::test_idle")})),
    "a-false-alarm": _outcome(lambda matrix: matrix.model_copy(update={"false_alarms": (ALARM,)})),
}
