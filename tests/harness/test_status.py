from __future__ import annotations

import math
from typing import Any

import pytest

from harness.criteria import Criterion, Status
from harness.evidence import CheckRecord, DeselectedCheck
from harness.status import Verdict, judge
from tests.harness.made_up import check, criterion, deselected, figure

RATIO = {"ratio": {"target": ">= 8.0", "tolerance": ">= 6.0", "unit": "x"}}


def verdict(
    *checks: CheckRecord, figures: dict[str, Any] | None = None, left_out: tuple[DeselectedCheck, ...] = ()
) -> Verdict:
    return judge(Criterion.model_validate(criterion("1.1.x", figures=figures or {})), checks, left_out)


def ratio(value: float, nodeid: str = "a") -> CheckRecord:
    return check(nodeid, "1.1.x", figures={"ratio": figure(value)})


def test_passed_checks_without_declared_figures_are_green() -> None:
    found = verdict(check("a", "1.1.x"), check("b", "1.1.x"))
    assert (found.status, found.reason) == (Status.GREEN, "2 checks passed")


def test_without_checks_a_row_is_grey() -> None:
    assert verdict().status is Status.GREY
    assert verdict(figures=RATIO).status is Status.GREY


def test_a_row_of_the_full_profile_says_so() -> None:
    found = verdict(left_out=(deselected("a", "1.1.x"),))
    assert found.status is Status.GREY
    assert "full profile" in found.reason


def test_checks_of_the_full_profile_are_mentioned_beside_those_that_ran() -> None:
    found = verdict(check("a", "1.1.x"), left_out=(deselected("b", "1.1.x"),))
    assert (found.status, found.reason) == (Status.GREEN, "1 check passed, 1 more in the full profile")


@pytest.mark.parametrize(("outcome", "word"), [("failed", "1 failed of 2"), ("error", "1 broke of 2")])
@pytest.mark.parametrize("other", ["passed", "skipped", "not_applicable"])
def test_a_failed_or_broken_check_makes_red(outcome: str, word: str, other: str) -> None:
    found = verdict(check("a", "1.1.x", outcome=other), check("b", "1.1.x", outcome=outcome, message="first\nsecond"))
    assert found.status is Status.RED
    assert word in found.reason
    assert found.reason.endswith("b: first")


def test_failed_and_broken_checks_are_counted_apart() -> None:
    found = verdict(check("a", "1.1.x", outcome="error", message="boom"), check("b", "1.1.x", outcome="failed"))
    assert found.reason == "1 failed and 1 broke of 2 checks: b: no message"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (9.0, "GREEN"),
        (8.0, "GREEN"),
        (math.nextafter(8.0, 0), "YELLOW"),
        (6.0, "YELLOW"),
        (math.nextafter(6.0, 0), "RED"),
        (math.nan, "RED"),
        (math.inf, "RED"),
        (-math.inf, "RED"),
    ],
)
def test_a_figure_is_held_to_target_and_tolerance(value: float, status: str) -> None:
    assert verdict(ratio(value), figures=RATIO).status == status


def test_without_a_tolerance_a_miss_is_red() -> None:
    assert verdict(ratio(7.99), figures={"ratio": {"target": ">= 8.0"}}).status is Status.RED


def test_the_worst_measurement_counts_and_comes_first() -> None:
    found = verdict(ratio(9.0, "a"), ratio(6.5, "b"), ratio(8.5, "c"), figures=RATIO)
    assert found.status is Status.YELLOW
    assert [each.nodeid for each in found.figures] == ["b", "c", "a"]
    assert found.reason == "ratio 6.5 x, target >= 8.0, tolerance >= 6.0"


def test_nan_is_the_worst_measurement() -> None:
    found = verdict(ratio(1.0, "a"), ratio(math.nan, "b"), figures=RATIO)
    assert found.figures[0].nodeid == "b"
    assert found.status is Status.RED


def test_a_figure_that_is_not_finite_makes_red_even_where_nothing_is_declared() -> None:
    found = verdict(check("a", "1.1.x", figures={"other": figure(math.nan)}))
    assert (found.status, found.reason) == (Status.RED, "not a finite number: other in a")


def test_a_declared_figure_that_no_check_recorded_makes_red() -> None:
    found = verdict(check("a", "1.1.x"), figures=RATIO)
    assert (found.status, found.missing_figures) == (Status.RED, ("ratio",))
    assert found.reason == "no check recorded ratio"


def test_a_figure_left_to_the_full_profile_makes_grey() -> None:
    found = verdict(check("a", "1.1.x"), figures=RATIO, left_out=(deselected("b", "1.1.x"),))
    assert found.status is Status.GREY
    assert "full profile" in found.reason


def test_a_figure_whose_check_does_not_apply_makes_grey() -> None:
    found = verdict(check("a", "1.1.x"), check("b", "1.1.x", outcome="not_applicable"), figures=RATIO)
    assert found.status is Status.GREY
    assert "do not apply" in found.reason


def test_a_row_that_does_not_apply_at_all_is_grey() -> None:
    found = verdict(check("a", "1.1.x", outcome="not_applicable", message="fake does not offer Packs"))
    assert (found.status, found.reason) == (Status.GREY, "not applicable: fake does not offer Packs")


def test_checks_that_do_not_apply_leave_the_verdict_to_the_others() -> None:
    found = verdict(check("a", "1.1.x", outcome="not_applicable"), check("b", "1.1.x"))
    assert (found.status, found.reason) == (Status.GREEN, "1 check passed, 1 not applicable")


@pytest.mark.parametrize("others", [[], [check("b", "1.1.x")], [ratio(9.0, "b")], [ratio(7.0, "b")]])
def test_a_skipped_check_never_lets_a_row_be_green(others: list[CheckRecord]) -> None:
    figures = RATIO if any(each.figures for each in others) else {}
    found = verdict(check("a", "1.1.x", outcome="skipped", message="no data"), *others, figures=figures)
    assert found.status is Status.GREY
    assert found.reason == f"1 of {1 + len(others)} checks were skipped: no data"


def test_a_missed_figure_is_red_even_beside_a_skipped_check() -> None:
    assert verdict(check("a", "1.1.x", outcome="skipped"), ratio(1.0, "b"), figures=RATIO).status is Status.RED


SPEED = {"speed": {"target": ">= 2.0", "unit": "x", "judged_on": "interval"}}


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(2.0, 3.0, "GREEN"), (1.999, 3.0, "RED"), (2.5, math.inf, "RED"), (math.nan, 3.0, "RED"), (None, None, "RED")],
)
def test_a_speed_is_judged_on_the_lower_end_of_its_interval(low: float, high: float, status: str) -> None:
    record = check("a", "1.1.x", figures={"speed": figure(2.6, low, high)})
    assert verdict(record, figures=SPEED).status == status


def test_the_reason_shows_the_interval_that_was_judged() -> None:
    found = verdict(check("a", "1.1.x", figures={"speed": figure(2.6, 1.5, 3.0)}), figures=SPEED)
    assert found.reason == "speed 2.6 x (interval 1.5 to 3), target >= 2.0"
    without = verdict(check("a", "1.1.x", figures={"speed": figure(2.6)}), figures=SPEED)
    assert without.reason == "speed 2.6 x (no interval), target >= 2.0"
