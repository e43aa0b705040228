"""What changed between two scorecards, or between the forensic audit and a scorecard.

Both scorecards are judged again from their own evidence, by the rules of this installation: what a scorecard says of
itself is not believed, and where it differs from its evidence that is named (`Diff.contradictions`).

A row that got worse, is no longer measured or is gone is a regression. A figure is one when it moved away from its
target and the two 95 % intervals do not overlap; one without an interval counts as a point, and NaN after a number is
worse than any number. Between the two ends of a `within` target no value is better than another.
"""

from __future__ import annotations

import math
from typing import Literal

from harness.comparison import Comparison
from harness.criteria import Rulebook, Status, load_rulebook
from harness.evidence import Record
from harness.scorecard import Row, Scorecard, recompute, score_of
from harness.status import RowFigure

Direction = Literal["better", "worse", "changed", "measured", "unmeasured", "same", "new", "gone"]
Interval = tuple[float, float]
_RANK = {Status.GREEN: 2, Status.YELLOW: 1, Status.RED: 0}


class StatusChange(Record):
    """The status of one row before and after; None where the row did not exist."""

    id: str
    title: str
    before: Status | None
    after: Status | None
    direction: Direction


class FigureChange(Record):
    """The worst measurement of one declared figure before and after; None where it was not measured.

    `noise`: both 95 % intervals overlap (or the change is within the slack), so that this may be no change at all.
    """

    id: str
    name: str
    unit: str
    before: float | None
    after: float | None
    before_interval: Interval | None = None
    after_interval: Interval | None = None
    direction: Direction
    noise: bool = False


class Contradiction(Record):
    """A row whose status is not the one that its evidence gives; `same_rules`: only an edit explains that."""

    scorecard: Literal["before", "after"]
    id: str
    told: Status
    given: Status
    same_rules: bool


class Diff(Record):
    """Rows whose status changed, figures that changed, and both overall scores (in 0..1)."""

    before: str
    after: str
    overall_before: float | None
    overall_after: float | None
    statuses: tuple[StatusChange, ...]
    figures: tuple[FigureChange, ...]
    contradictions: tuple[Contradiction, ...] = ()

    @property
    def regressions(self) -> tuple[StatusChange, ...]:
        """The rows that got worse or are no longer measured."""
        return tuple(each for each in self.statuses if each.direction in ("worse", "unmeasured", "gone"))

    @property
    def figure_regressions(self) -> tuple[FigureChange, ...]:
        """The figures that got worse by more than their intervals allow."""
        return tuple(each for each in self.figures if each.direction == "worse" and not each.noise)

    @property
    def edited(self) -> tuple[Contradiction, ...]:
        """The rows whose status was changed by hand, or their evidence."""
        return tuple(each for each in self.contradictions if each.same_rules)


def compare(before: Scorecard, after: Scorecard, rulebook: Rulebook | None = None, slack: float = 0.0) -> Diff:
    """What changed from one scorecard to another; what stayed the same is left out.

    A figure that moved by no more than `slack`, relative to its value before, is no regression.
    """
    rulebook = rulebook or load_rulebook()
    old, new = _judged_again(before, rulebook), _judged_again(after, rulebook)
    ids = [*new, *(each for each in old if each not in new)]
    statuses = [_status_change(old.get(each), new.get(each)) for each in ids]
    figures = [change for each in ids for change in _figure_changes(old.get(each), new.get(each), slack)]
    return Diff(
        before=_name(before),
        after=_name(after),
        overall_before=score_of(tuple(old.values())).score,
        overall_after=score_of(tuple(new.values())).score,
        statuses=tuple(each for each in statuses if each.direction != "same"),
        figures=tuple(each for each in figures if each.direction != "same"),
        contradictions=(
            *_contradictions("before", before, old, rulebook),
            *_contradictions("after", after, new, rulebook),
        ),
    )


def direction_of(before: Status | None, after: Status | None) -> Direction:
    """Which way a status moved; GREY is neither better nor worse than a colour."""
    if before is after:
        return "same"
    if before is None or after is None:
        return "new" if before is None else "gone"
    if before is Status.GREY or after is Status.GREY:
        return "measured" if before is Status.GREY else "unmeasured"
    return "better" if _RANK[after] > _RANK[before] else "worse"


# --------------------------------------------------------------------------- rows


def _judged_again(scorecard: Scorecard, rulebook: Rulebook) -> dict[str, Row]:
    """The rows that a scorecard has, as its evidence gives them; a row that the rulebook has not is taken as it is."""
    honest = recompute(scorecard, rulebook)
    return {row.id: honest.row(row.id) or row for row in scorecard.criteria}


def _contradictions(
    which: Literal["before", "after"], scorecard: Scorecard, honest: dict[str, Row], rulebook: Rulebook
) -> list[Contradiction]:
    same_rules = scorecard.rules == rulebook.digest
    return [
        Contradiction(scorecard=which, id=row.id, told=row.status, given=honest[row.id].status, same_rules=same_rules)
        for row in scorecard.criteria
        if row.status is not honest[row.id].status
    ]


def _status_change(before: Row | None, after: Row | None) -> StatusChange:
    row = after or before
    assert row is not None
    old, new = before.status if before else None, after.status if after else None
    return StatusChange(id=row.id, title=row.title, before=old, after=new, direction=direction_of(old, new))


# --------------------------------------------------------------------------- figures


def _figure_changes(before: Row | None, after: Row | None, slack: float) -> list[FigureChange]:
    old, new = _worst_figures(before), _worst_figures(after)
    names = [*new, *(name for name in old if name not in new)]
    row = after or before
    assert row is not None
    return [_figure_change(row.id, name, old.get(name), new.get(name), slack) for name in names]


def _worst_figures(row: Row | None) -> dict[str, RowFigure]:
    figures: dict[str, RowFigure] = {}
    for figure in row.figures if row else ():
        figures.setdefault(figure.name, figure)  # the worst measurement of each comes first
    return figures


def _figure_change(
    row_id: str, name: str, before: RowFigure | None, after: RowFigure | None, slack: float
) -> FigureChange:
    figure = after or before
    assert figure is not None
    return FigureChange(
        id=row_id,
        name=name,
        unit=figure.unit,
        before=before.value if before else None,
        after=after.value if after else None,
        before_interval=before.interval if before else None,
        after_interval=after.interval if after else None,
        direction=_figure_direction(before, after),
        noise=before is not None and after is not None and _is_noise(before, after, slack),
    )


def _figure_direction(before: RowFigure | None, after: RowFigure | None) -> Direction:
    if before is None or after is None:
        return "measured" if before is None else "unmeasured"
    if str(after.value) == str(before.value):  # as text, so that NaN equals NaN
        return "same"
    target = Comparison.parse(after.target)
    old, new = (target.margin(figure.value) for figure in (before, after))
    if target.operator in ("within", "=="):
        old, new = min(old, 0.0), min(new, 0.0)
    if old == new:
        return "changed"
    return "better" if new > old else "worse"


def _is_noise(before: RowFigure, after: RowFigure, slack: float) -> bool:
    if not (math.isfinite(before.value) and math.isfinite(after.value)):
        return False
    if abs(after.value - before.value) <= slack * abs(before.value):
        return True
    (low, high), (new_low, new_high) = _ends(before), _ends(after)
    return (low < high or new_low < new_high) and low <= new_high and new_low <= high


def _ends(figure: RowFigure) -> Interval:
    """The interval of a measurement; the value alone where there is none, or one with an end that is no number."""
    interval = figure.interval
    return interval if interval and all(map(math.isfinite, interval)) else (figure.value, figure.value)


def _name(scorecard: Scorecard) -> str:
    commit = scorecard.commit.id[:12] if scorecard.commit else "no commit"
    return f"{scorecard.subject.name} {scorecard.subject.version}, {scorecard.profile}, {commit}, {scorecard.started}"
