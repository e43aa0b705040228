from __future__ import annotations

import math
from typing import Any

import pytest

from tests.harness import made_up
from tests.harness.gate_scorecards import breaches, records, scorecard
from tests.harness.made_up import figure


def test_a_scorecard_that_holds_every_threshold_has_no_breach() -> None:
    held = {
        "overall": ">= 1.0",
        "max_red": 0,
        "must_be_green": ["1.a", "0.mean"],
        "figures": {"1.a/ratio": ">= 9.0", "1.a/bits": "<= 1.6", "1.c/speed": ">= 2.1"},
    }
    assert breaches(scorecard(), **held) == []


@pytest.mark.parametrize(
    ("thresholds", "breach"),
    [
        ({"overall": "> 1.0"}, "overall: measured 1, threshold > 1.0"),
        ({"figures": {"1.a/ratio": ">= 9.01"}}, "1.a/ratio: measured 9, threshold >= 9.01"),
        ({"figures": {"1.a/bits": "<= 1.59"}}, "1.a/bits: measured 1.6, threshold <= 1.59"),
        ({"figures": {"1.c/speed": ">= 2.2"}}, "1.c/speed: measured 2.1, threshold >= 2.2"),
        ({"figures": {"1.a/absent": ">= 0"}}, "1.a/absent: measured nothing, threshold >= 0"),
        ({"figures": {"9.z/ratio": ">= 0"}}, "9.z/ratio: measured nothing, threshold >= 0"),
        ({"must_be_green": ["9.z"]}, "9.z: measured no row, threshold GREEN"),
    ],
)
def test_a_threshold_tightened_past_the_measured_value_is_named(thresholds: dict[str, Any], breach: str) -> None:
    assert breaches(scorecard(), **thresholds) == [breach]


@pytest.mark.parametrize(
    ("thresholds", "breach"),
    [
        ({"categories": {"parts": ">= 0.834"}}, "category parts: measured 0.833333, threshold >= 0.834"),
        ({"categories": {"scores": ">= 0"}}, "category scores: measured nothing, threshold >= 0"),
        ({"categories": {"others": ">= 0"}}, "category others: measured nothing, threshold >= 0"),
        (
            {"criteria": {"1.a": "GREEN", "1.b": "YELLOW"}},
            "1.a: measured YELLOW (ratio 7, target >= 8, tolerance >= 6), threshold GREEN",
        ),
    ],
)
def test_categories_and_criteria_have_thresholds_of_their_own(thresholds: dict[str, Any], breach: str) -> None:
    card = scorecard(*records(ratio=7.0))
    assert breaches(card, categories={"parts": ">= 0.8"}, criteria={"1.*": "YELLOW"}) == []
    assert breaches(card, **thresholds) == [breach]


def test_the_stricter_of_two_thresholds_of_a_row_counts_once() -> None:
    found = breaches(scorecard(*records(ratio=1.0)), must_be_green=["1.a"], criteria={"1.*": "YELLOW"})
    assert [each.partition(" (")[0] for each in found] == ["1.a: measured RED"]
    assert len(breaches(scorecard(*records(ratio=7.0)), must_be_green=["1.a"], criteria={"1.*": "YELLOW"})) == 1
    (found,) = breaches(scorecard(*records(ratio=1.0)), criteria={"1.*": "YELLOW"})
    assert found.endswith("threshold GREEN or YELLOW")


# A boundary value meets what includes it, in targets, tolerances and thresholds alike.
@pytest.mark.parametrize(
    ("ratio", "status"),
    [(8.0, "GREEN"), (math.nextafter(8.0, 0.0), "YELLOW"), (6.0, "YELLOW"), (math.nextafter(6.0, 0.0), "RED")],
)
def test_a_value_exactly_at_a_target_or_a_tolerance_meets_it(ratio: float, status: str) -> None:
    assert breaches(scorecard(*records(ratio=ratio)), criteria={"1.a": "YELLOW"}) == [] or status == "RED"
    assert breaches(scorecard(*records(ratio=ratio)), must_be_green=["1.a"]) == [] or status != "GREEN"
    row = scorecard(*records(ratio=ratio)).row("1.a")
    assert row is not None
    assert row.status == status


def test_a_figure_that_was_not_measured_says_why() -> None:
    card = scorecard(made_up.check("a", "1.a", outcome="skipped", message="run the tests first"))
    (found,) = breaches(card, figures={"1.a/ratio": ">= 1"})
    assert found.startswith("1.a/ratio: measured nothing (1 of 1 checks were skipped: run the tests first)")


def test_rows_that_must_be_green_may_not_be_anything_else() -> None:
    card = scorecard(*records(ratio=7.0)[:1], made_up.check("b", "1.b", outcome="failed", message="no"))
    found = breaches(card, must_be_green=["1.a", "1.b", "1.c"])
    assert found == [
        "1.a: measured YELLOW (ratio 7, target >= 8, tolerance >= 6), threshold GREEN",
        "1.b: measured RED (1 failed of 1 checks: b: no), threshold GREEN",
        "1.c: measured GREY (no check measures this), threshold GREEN",
    ]


def test_red_rows_are_counted() -> None:
    card = scorecard(made_up.check("b", "1.b", outcome="failed"), *records(low=1.0)[::2])
    assert breaches(card, max_red=3) == []  # the two and the mean that falls with them
    assert breaches(card, max_red=2) == ["RED rows: measured 3, threshold <= 2"]


def test_the_worst_of_several_measurements_counts() -> None:
    second = made_up.check("d", "1.a", figures={"ratio": figure(8.5)})
    assert breaches(scorecard(*records(), second), figures={"1.a/ratio": ">= 8.6"}) == [
        "1.a/ratio: measured 8.5, threshold >= 8.6"
    ]


def test_the_worst_is_the_largest_where_a_figure_may_not_be_large() -> None:
    first = made_up.check("d", "1.a", figures={"ratio": figure(9.5)})
    assert breaches(scorecard(first, *records()), figures={"1.a/ratio": "<= 9"}) == [
        "1.a/ratio: measured 9.5, threshold <= 9"
    ]


def test_a_figure_may_have_a_slash_in_its_name() -> None:
    card = scorecard(*records(), made_up.check("d", "1.a", figures={"tokens/s": figure(30)}))
    assert breaches(card, figures={"1.a/tokens/s": ">= 30"}) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("threshold", [">= 0", "<= 0", "within -9..9"])
def test_a_figure_that_is_not_finite_breaches_whatever_the_threshold(value: float, threshold: str) -> None:
    found = breaches(scorecard(*records(ratio=value)), figures={"1.a/ratio": threshold})
    assert f"1.a ratio: measured {value} in a, threshold a finite number" in found
    assert f"1.a/ratio: measured {value}, threshold {threshold}" in found


def test_a_speed_without_an_interval_holds_no_threshold() -> None:
    card = scorecard(*records()[:2], made_up.check("c", "1.c", figures={"speed": figure(9.0)}))
    assert breaches(card, figures={"1.c/speed": ">= 1"}) == ["1.c/speed: measured nan, threshold >= 1"]
