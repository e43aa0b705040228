"""Rows of a scorecard in words: statuses, figures and checks as every report shows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.comparison import Comparison
from harness.criteria import Status
from harness.evidence import CheckRecord, Outcome
from harness.render.arithmetic import audit_score_now
from harness.render.numbers import clean, number, percent, plural, seconds, telling, with_unit
from harness.scorecard import Row, Scorecard
from harness.status import RowFigure, describe


@dataclass(frozen=True)
class Mark:
    """A status as it is shown: a word and a symbol of its own shape, so that colour is never needed."""

    word: str
    symbol: str
    meaning: str


MARKS = {
    Status.GREEN: Mark("GREEN", "✓", "met"),
    Status.YELLOW: Mark("YELLOW", "≈", "partly met"),
    Status.RED: Mark("RED", "✗", "not met"),
    Status.GREY: Mark("GREY", "○", "not measured"),
}
_FIGURE_WORDS = {Status.GREEN: "met", Status.YELLOW: "within tolerance", Status.RED: "missed"}
_OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "passed": ("✓", "passed"),
    "failed": ("✗", "failed"),
    "error": ("✗", "broke"),
    "skipped": ("○", "skipped"),
    "not_applicable": ("○", "not applicable"),
}


@dataclass(frozen=True)
class FigureView:
    """One measured number in words; `verdict` is empty for a number that no target was declared for."""

    name: str
    value: str
    interval: str = ""
    target: str = ""
    tolerance: str = ""
    verdict: str = ""
    mark: Mark | None = None
    source: str = ""


@dataclass(frozen=True)
class PlotLink:
    """Where a check's plot is found in a report that has plots."""

    anchor: str
    title: str


@dataclass(frozen=True)
class CheckView:
    """One check with what it left behind."""

    nodeid: str
    outcome: str
    symbol: str
    words: str
    message: str
    notes: tuple[str, ...]
    figures: tuple[FigureView, ...]
    command: str
    duration: str
    plots: tuple[PlotLink, ...]
    attachments: tuple[str, ...]


@dataclass(frozen=True)
class RowView:
    """One criterion as every report shows it."""

    id: str
    anchor: str
    title: str
    claim: str
    reading: str
    explanation: str
    status: Mark
    baseline: Mark
    baseline_value: str
    reason: str
    figures: tuple[FigureView, ...]
    other_figures: tuple[FigureView, ...]
    checks: tuple[CheckView, ...]
    evidence: str
    left_out: str
    arithmetic: str
    derived_from: tuple[tuple[str, str], ...]
    command: str
    ran: str
    artefacts: tuple[tuple[str, str], ...]
    worse: bool


def anchor_of(identifier: str) -> str:
    """An id for a link inside a page: letters, digits, dots and dashes."""
    return "row-" + re.sub(r"[^A-Za-z0-9.-]", "-", identifier)


def row_view(scorecard: Scorecard, row: Row, plots: dict[str, tuple[PlotLink, ...]]) -> RowView:
    """A row with its checks in words; `plots` gives the links of each check by node id."""
    worst, others = _figures(row)
    records = scorecard.checks_of(row)
    return RowView(
        id=row.id,
        anchor=anchor_of(row.id),
        title=row.title,
        claim=row.claim,
        reading=row.reading or "",
        explanation=row.explanation,
        status=MARKS[row.status],
        baseline=MARKS[row.baseline],
        baseline_value=row.baseline_value,
        reason="" if _told_by_figures(row) else clean(row.reason),
        figures=worst,
        other_figures=others,
        checks=tuple(_check_view(record, plots.get(record.nodeid, ())) for record in records),
        evidence=_evidence_line(row, records),
        left_out=_left_out(row),
        arithmetic=_arithmetic(row),
        derived_from=tuple((source, anchor_of(source)) for source in row.derived_from),
        command=clean(row.command),
        ran=f"environment {row.environment or 'unknown'}, commit {(row.commit or 'unknown')[:12]}",
        artefacts=_artefacts(row.artefacts),
        worse=_rank(row.status) < _rank(row.baseline),
    )


def _rank(status: Status) -> int:
    """GREY ranks with the best: what was not measured is not known to be worse."""
    return {Status.RED: 0, Status.YELLOW: 1}.get(status, 2)


def _figures(row: Row) -> tuple[tuple[FigureView, ...], tuple[FigureView, ...]]:
    """The worst measurement of each declared figure, and the other measurements."""
    if row.derived_from:
        return _derived_figures(row), ()
    worst: dict[str, FigureView] = {}
    others = []
    for figure in row.figures:
        view = _figure_view(figure)
        if figure.name in worst:
            others.append(view)
        else:
            worst[figure.name] = view
    for name in row.missing_figures:
        worst[name] = FigureView(name=name, value="not measured", mark=MARKS[Status.GREY])
    return tuple(worst.values()), tuple(others)


def _derived_figures(row: Row) -> tuple[FigureView, ...]:
    score = audit_score_now(row)
    return () if score is None else (FigureView(name="score", value=percent(score / 100)),)


def _figure_view(figure: RowFigure) -> FigureView:
    target = Comparison.parse(figure.target)
    tolerance = Comparison.parse(figure.tolerance) if figure.tolerance else None

    def judge(value: float) -> tuple[bool, bool]:
        return target.holds(value), tolerance is not None and tolerance.holds(value)

    return FigureView(
        name=clean(figure.name),
        value=with_unit(telling(figure.value, judge), figure.unit),
        interval=interval_text(figure.interval, figure.unit, judge),
        target=figure.target + (" for the whole interval" if figure.judged_on == "interval" else ""),
        tolerance=figure.tolerance or "",
        verdict=_FIGURE_WORDS[figure.status],
        mark=MARKS[figure.status],
        source=figure.nodeid,
    )


def interval_text(
    interval: tuple[float, float] | None, unit: str, judge: Callable[[float], object] = lambda _: None
) -> str:
    """The 95 % interval in words; empty when none was measured."""
    if interval is None:
        return ""
    low, high = (telling(end, judge) for end in interval)
    return f"95 % interval {with_unit(f'{low} to {high}', '' if unit == 'x' else unit)}"


def _told_by_figures(row: Row) -> bool:
    """Whether the reason only repeats the figures that stand beside it."""
    if row.derived_from:
        return False
    for status in (Status.RED, Status.YELLOW):
        told = [describe(figure) for figure in row.figures if figure.status is status]
        if told and row.reason == "; ".join(told):
            return True
    return False


def _check_view(record: CheckRecord, plots: tuple[PlotLink, ...]) -> CheckView:
    symbol, words = _OUTCOMES[record.outcome]
    figures = tuple(
        FigureView(
            name=clean(name),
            value=with_unit(number(figure.value), figure.unit),
            interval=interval_text(figure.interval, figure.unit),
        )
        for name, figure in record.figures.items()
    )
    return CheckView(
        nodeid=clean(record.nodeid),
        outcome=record.outcome,
        symbol=symbol,
        words=words,
        message=clean(record.message),
        notes=tuple(map(clean, record.notes)),
        figures=figures,
        command=clean(record.command),
        duration=seconds(record.duration),
        plots=plots,
        attachments=tuple(clean(name) for name in record.attachments),
    )


def _artefacts(digests: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((clean(name), clean(digest)) for name, digest in digests.items())


def _evidence_line(row: Row, records: Sequence[CheckRecord]) -> str:
    if row.derived_from:
        return f"Evidence: derived from {plural(len(row.derived_from), 'row')}"
    return f"Evidence: {plural(len(records), 'check')}" if records else "Evidence: none, no check ran"


def _left_out(row: Row) -> str:
    count = len(row.deselected)
    return f"{plural(count, 'more check')} in the full profile only." if count else ""


def _arithmetic(row: Row) -> str:
    if row.arithmetic:
        return row.arithmetic
    earned = f"{row.status.value} earns the credit {row.credit:g}"
    if not row.weight:
        return f"{earned}; the row has no weight in the overall score."
    return f"{earned}, times the weight {row.weight:g}: {row.credit * row.weight:g} of {row.weight:g}."
