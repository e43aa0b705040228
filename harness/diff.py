"""What changed between two scorecards, or between the forensic audit and a scorecard."""

from __future__ import annotations

from typing import Literal

from harness.comparison import Comparison
from harness.criteria import Status
from harness.evidence import Record
from harness.scorecard import Row, Scorecard
from harness.status import RowFigure

Direction = Literal["better", "worse", "measured", "unmeasured", "same", "new", "gone"]
_RANK = {Status.GREEN: 2, Status.YELLOW: 1, Status.RED: 0}


class StatusChange(Record):
    """The status of one row before and after; None where the row did not exist."""

    id: str
    title: str
    before: Status | None
    after: Status | None
    direction: Direction


class FigureChange(Record):
    """The worst measurement of one declared figure before and after; None where it was not measured."""

    id: str
    name: str
    unit: str
    before: float | None
    after: float | None
    direction: Direction


class Diff(Record):
    """Rows whose status changed, figures that changed, and both overall scores (in 0..1)."""

    before: str
    after: str
    overall_before: float | None
    overall_after: float | None
    statuses: tuple[StatusChange, ...]
    figures: tuple[FigureChange, ...]

    @property
    def regressions(self) -> tuple[StatusChange, ...]:
        """The rows that got worse or are no longer measured."""
        return tuple(each for each in self.statuses if each.direction in ("worse", "unmeasured", "gone"))


def compare(before: Scorecard, after: Scorecard) -> Diff:
    """What changed from one scorecard to another; what stayed the same is left out."""
    old, new = {row.id: row for row in before.criteria}, {row.id: row for row in after.criteria}
    ids = [*new, *(each for each in old if each not in new)]
    statuses = [_status_change(old.get(each), new.get(each)) for each in ids]
    figures = [change for each in ids for change in _figure_changes(old.get(each), new.get(each))]
    return Diff(
        before=_name(before),
        after=_name(after),
        overall_before=before.overall.score,
        overall_after=after.overall.score,
        statuses=tuple(each for each in statuses if each.direction != "same"),
        figures=tuple(each for each in figures if each.direction != "same"),
    )


def against_baseline(scorecard: Scorecard) -> tuple[StatusChange, ...]:
    """Every row against its status in the forensic audit, also those that stayed the same."""
    return tuple(
        StatusChange(
            id=row.id,
            title=row.title,
            before=row.baseline,
            after=row.status,
            direction=direction_of(row.baseline, row.status),
        )
        for row in scorecard.criteria
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


def _status_change(before: Row | None, after: Row | None) -> StatusChange:
    row = after or before
    assert row is not None
    old, new = before.status if before else None, after.status if after else None
    return StatusChange(id=row.id, title=row.title, before=old, after=new, direction=direction_of(old, new))


def _figure_changes(before: Row | None, after: Row | None) -> list[FigureChange]:
    old, new = _worst_figures(before), _worst_figures(after)
    names = [*new, *(name for name in old if name not in new)]
    row = after or before
    assert row is not None
    return [_figure_change(row.id, name, old.get(name), new.get(name)) for name in names]


def _worst_figures(row: Row | None) -> dict[str, RowFigure]:
    figures: dict[str, RowFigure] = {}
    for figure in row.figures if row else ():
        figures.setdefault(figure.name, figure)  # the worst measurement of each comes first
    return figures


def _figure_change(row_id: str, name: str, before: RowFigure | None, after: RowFigure | None) -> FigureChange:
    figure = after or before
    assert figure is not None
    return FigureChange(
        id=row_id,
        name=name,
        unit=figure.unit,
        before=before.value if before else None,
        after=after.value if after else None,
        direction=_figure_direction(before, after),
    )


def _figure_direction(before: RowFigure | None, after: RowFigure | None) -> Direction:
    if before is None or after is None:
        return "measured" if before is None else "unmeasured"
    target = Comparison.parse(after.target)
    gain = target.margin(after.value) - target.margin(before.value)
    if str(after.value) == str(before.value) or gain == 0:  # as text, so that NaN equals NaN
        return "same"
    return "better" if gain > 0 else "worse"


def _name(scorecard: Scorecard) -> str:
    commit = scorecard.commit.id[:12] if scorecard.commit else "no commit"
    return f"{scorecard.subject.name} {scorecard.subject.version}, {scorecard.profile}, {commit}, {scorecard.started}"
