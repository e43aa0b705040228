from __future__ import annotations

import math
from itertools import product

import pytest

from harness.criteria import Rulebook, Status
from harness.diff import FigureChange, against_baseline, compare, direction_of
from harness.evidence import CheckRecord
from harness.scorecard import Scorecard, build
from tests.harness.made_up import check, criterion, figure, rulebook, run

RULES = rulebook(
    criterion("1.a", figures={"ratio": {"target": ">= 8", "tolerance": ">= 6", "unit": "x"}}), criterion("1.b")
)


def scorecard(*records: CheckRecord, rules: Rulebook = RULES) -> Scorecard:
    return build(run(*records), rules)


def ratio(*values: float) -> tuple[CheckRecord, ...]:
    return tuple(check(f"r{number}", "1.a", figures={"ratio": figure(each)}) for number, each in enumerate(values))


@pytest.mark.parametrize(
    ("before", "after", "direction"),
    [
        ("RED", "GREEN", "better"),
        ("YELLOW", "GREEN", "better"),
        ("GREEN", "YELLOW", "worse"),
        ("YELLOW", "RED", "worse"),
        ("GREY", "RED", "measured"),
        ("GREEN", "GREY", "unmeasured"),
    ],
)
def test_statuses_move_in_a_direction(before: str, after: str, direction: str) -> None:
    assert direction_of(Status(before), Status(after)) == direction


def test_nothing_moves_where_nothing_changed() -> None:
    assert all((direction_of(a, b) == "same") is (a is b) for a, b in product([*Status, None], repeat=2))
    changes = compare(scorecard(*ratio(9.0)), scorecard(*ratio(9.0)))
    assert (changes.statuses, changes.figures, changes.regressions) == ((), (), ())


def test_changed_statuses_and_figures_are_listed_with_the_worst_measurement() -> None:
    before, after = scorecard(*ratio(9.0, 8.5)), scorecard(*ratio(7.0, 8.8), check("b", "1.b"))
    changes = compare(before, after)
    assert [(each.id, each.before, each.after, each.direction) for each in changes.statuses] == [
        ("1.a", Status.GREEN, Status.YELLOW, "worse"),
        ("1.b", Status.GREY, Status.GREEN, "measured"),
    ]
    assert changes.figures == (
        FigureChange(id="1.a", name="ratio", unit="x", before=8.5, after=7.0, direction="worse"),
    )
    assert [each.id for each in changes.regressions] == ["1.a"]
    assert (changes.overall_before, changes.overall_after) == (0.5, 0.75)
    assert changes.after == "made-up 1.0, quick, 0123456789ab, 2026-01-02T03:04:05+00:00"


def test_a_row_that_is_no_longer_measured_is_a_regression() -> None:
    changes = compare(scorecard(*ratio(9.0)), scorecard(check("b", "1.b")))
    assert [each.id for each in changes.regressions] == ["1.a"]
    assert changes.figures[0].after is None
    assert changes.figures[0].direction == "unmeasured"
    assert compare(scorecard(), scorecard(*ratio(9.0))).figures[0].direction == "measured"


def test_rows_of_one_scorecard_alone_are_new_or_gone() -> None:
    smaller = rulebook(criterion("1.b"))
    shrunk = compare(scorecard(*ratio(9.0)), scorecard(check("b", "1.b"), rules=smaller))
    assert [(each.id, each.direction) for each in shrunk.statuses] == [("1.b", "measured"), ("1.a", "gone")]
    assert [each.id for each in shrunk.regressions] == ["1.a"]
    grown = compare(scorecard(check("b", "1.b"), rules=smaller), scorecard(*ratio(9.0)))
    assert ("1.a", "new") in [(each.id, each.direction) for each in grown.statuses]


@pytest.mark.parametrize(
    ("before", "after", "directions"),
    [(math.nan, math.nan, []), (math.nan, 9.0, ["better"]), (9.0, math.nan, ["worse"]), (7.0, 7.5, ["better"])],
)
def test_figures_move_in_the_direction_of_their_target(before: float, after: float, directions: list[str]) -> None:
    changes = compare(scorecard(*ratio(before)), scorecard(*ratio(after)))
    assert [each.direction for each in changes.figures] == directions


def test_every_row_is_set_against_the_baseline() -> None:
    changes = against_baseline(scorecard(*ratio(1.0), check("b", "1.b")))
    assert [(each.id, each.before, each.direction) for each in changes] == [
        ("1.a", Status.GREEN, "worse"),
        ("1.b", Status.GREEN, "same"),
    ]


def test_a_run_without_a_commit_is_named_too() -> None:
    given = build(run(check("b", "1.b"), commit=None), RULES)
    assert "no commit" in compare(given, given).before
