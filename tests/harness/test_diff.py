from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import pytest

from harness.criteria import Rulebook, Status
from harness.diff import Diff, FigureChange, compare, direction_of
from harness.evidence import CheckRecord
from harness.scorecard import Scorecard, build, parse, to_json
from tests.harness.made_up import check, criterion, figure, rulebook, run

RULES = rulebook(
    criterion("1.a", figures={"ratio": {"target": ">= 8", "tolerance": ">= 6", "unit": "x"}}), criterion("1.b")
)


def scorecard(*records: CheckRecord, rules: Rulebook = RULES) -> Scorecard:
    return build(run(*records), rules)


def between(before: Scorecard, after: Scorecard, **options: Any) -> Diff:
    return compare(before, after, RULES, **options)


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
    changes = between(scorecard(*ratio(9.0)), scorecard(*ratio(9.0)))
    assert (changes.statuses, changes.figures, changes.regressions) == ((), (), ())


def test_changed_statuses_and_figures_are_listed_with_the_worst_measurement() -> None:
    before, after = scorecard(*ratio(9.0, 8.5)), scorecard(*ratio(7.0, 8.8), check("b", "1.b"))
    changes = between(before, after)
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
    changes = between(scorecard(*ratio(9.0)), scorecard(check("b", "1.b")))
    assert [each.id for each in changes.regressions] == ["1.a"]
    assert changes.figures[0].after is None
    assert changes.figures[0].direction == "unmeasured"
    assert between(scorecard(), scorecard(*ratio(9.0))).figures[0].direction == "measured"


def test_rows_of_one_scorecard_alone_are_new_or_gone() -> None:
    smaller = rulebook(criterion("1.b"))
    shrunk = between(scorecard(*ratio(9.0)), scorecard(check("b", "1.b"), rules=smaller))
    assert [(each.id, each.direction) for each in shrunk.statuses] == [("1.b", "measured"), ("1.a", "gone")]
    assert [each.id for each in shrunk.regressions] == ["1.a"]
    grown = between(scorecard(check("b", "1.b"), rules=smaller), scorecard(*ratio(9.0)))
    assert ("1.a", "new") in [(each.id, each.direction) for each in grown.statuses]


@pytest.mark.parametrize(
    ("before", "after", "directions"),
    [(math.nan, math.nan, []), (math.nan, 9.0, ["better"]), (9.0, math.nan, ["worse"]), (7.0, 7.5, ["better"])],
)
def test_figures_move_in_the_direction_of_their_target(before: float, after: float, directions: list[str]) -> None:
    changes = between(scorecard(*ratio(before)), scorecard(*ratio(after)))
    assert [each.direction for each in changes.figures] == directions


def test_a_run_without_a_commit_is_named_too() -> None:
    given = build(run(check("b", "1.b"), commit=None), RULES)
    assert "no commit" in compare(given, given).before


# --------------------------------------------------------------------------- intervals

POINT, TOUCHING, APART, WIDE = (9.0, None, None), (8.6, 8.5, 8.9), (8.4, 8.3, 8.45), (8.9, 8.4, 9.3)


def measured(value: float, low: float | None = None, high: float | None = None, target: str = ">= 8") -> Scorecard:
    rules = rulebook(criterion("1.a", figures={"ratio": {"target": target}}))
    return scorecard(check("a", "1.a", figures={"ratio": figure(value, low, high)}), rules=rules)


@pytest.mark.parametrize(
    ("before", "after", "regressions"),
    [
        (WIDE, TOUCHING, 0),
        (TOUCHING, APART, 1),  # 8.45 lies below 8.5
        (TOUCHING, (8.2, 8.0, 8.5), 0),  # touching at 8.5: the intervals share a point
        (APART, TOUCHING, 0),  # better
        (POINT, TOUCHING, 1),  # the point lies above the interval
        ((8.9, None, None), TOUCHING, 0),  # the point lies in it
        (TOUCHING, (8.4, None, None), 1),
        (POINT, (8.999, None, None), 1),  # two points: any worse value
        (POINT, POINT, 0),
        (WIDE, (math.nan, 8.4, 9.3), 1),  # NaN is worse than any number
        ((math.nan, None, None), WIDE, 0),
        (WIDE, (8.0, math.nan, 9.3), 1),  # an interval with such an end is none
        ((9.0, 9.0, 9.0), (8.0, 8.0, 8.0), 1),
    ],
)
def test_a_figure_is_a_regression_when_it_got_worse_beyond_both_intervals(
    before: tuple[float, ...], after: tuple[float, ...], regressions: int
) -> None:
    found = compare(
        measured(*before), measured(*after), rulebook(criterion("1.a", figures={"ratio": {"target": ">= 8"}}))
    )
    assert len(found.figure_regressions) == regressions


@pytest.mark.parametrize(
    ("target", "before", "after", "direction"),
    [
        ("<= 8", 7.0, 6.0, "better"),
        ("<= 8", 6.0, 7.0, "worse"),
        ("within 1..9", 2.0, 8.5, "changed"),
        ("within 1..9", 5.0, 9.5, "worse"),
        ("within 1..9", 0.0, 1.0, "better"),
        ("== 8", 8.0, 7.0, "worse"),
        ("== 8", 9.0, 7.0, "changed"),
    ],
)
def test_the_direction_of_better_is_the_criterion_s(target: str, before: float, after: float, direction: str) -> None:
    rules = rulebook(criterion("1.a", figures={"ratio": {"target": target}}))
    found = compare(measured(before, target=target), measured(after, target=target), rules)
    assert [each.direction for each in found.figures] == [direction]
    assert len(found.figure_regressions) == (direction == "worse")


def test_a_change_within_the_slack_is_no_regression() -> None:
    before, after = scorecard(*ratio(10.0)), scorecard(*ratio(9.8))
    assert not between(before, after, slack=0.0201).figure_regressions
    assert between(before, after, slack=0.0199).figure_regressions


# --------------------------------------------------------------------------- what a scorecard says of itself


def changed(card: Scorecard, **changes: Any) -> Scorecard:
    """A scorecard whose first row, or whose top level, was changed by hand."""
    data = json.loads(to_json(card))
    data["criteria"][0] |= changes.pop("row", {})
    return parse(data | changes, "edited")


def test_statuses_are_computed_anew_and_an_edited_one_is_named() -> None:
    honest = scorecard(*ratio(1.0))
    painted = changed(honest, row={"status": "GREEN", "credit": 1.0})
    found = between(scorecard(*ratio(9.0)), painted)
    assert [(each.id, each.after) for each in found.regressions] == [("1.a", Status.RED)]
    (edit,) = found.edited
    assert (edit.scorecard, edit.id, edit.told, edit.given) == ("after", "1.a", Status.GREEN, Status.RED)
    assert found.overall_after == between(honest, honest).overall_after == 0.0


def test_a_scorecard_of_other_rules_is_judged_by_these_and_not_called_edited() -> None:
    lenient = rulebook(criterion("1.a", figures={"ratio": {"target": ">= 1"}}), criterion("1.b"))
    found = between(scorecard(*ratio(7.0), rules=lenient), scorecard(*ratio(7.0)))
    assert found.statuses == ()
    assert found.edited == ()
    assert [(each.scorecard, each.told, each.given) for each in found.contradictions] == [
        ("before", Status.GREEN, Status.YELLOW)
    ]


def test_a_row_that_the_rules_no_longer_have_counts_as_it_stands() -> None:
    larger = rulebook(criterion("1.a"), criterion("1.b"), criterion("7.old"))
    found = between(scorecard(check("o", "7.old"), rules=larger), scorecard())
    assert [(each.id, each.direction) for each in found.regressions] == [("7.old", "gone")]


def test_an_older_schema_version_is_read() -> None:
    data = json.loads(to_json(scorecard(*ratio(9.0)))) | {"schema_version": 1}
    del data["rules"]
    found = between(parse(data, "old.json"), scorecard(*ratio(7.0)))
    assert [each.id for each in found.regressions] == ["1.a"]
