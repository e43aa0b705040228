"""The plots of a scorecard: what the checks attached, and the scores then and now.

Drawings are marked as safe here: they are SVG made by `plots`, in which foreign text is escaped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from harness.criteria import Status
from harness.errors import AuditError
from harness.evidence import CheckRecord
from harness.render.arithmetic import as_percent, audit_score_now
from harness.render.numbers import clean, number
from harness.render.page import Page
from harness.render.plots import PlotSpec, Score, is_plot, parse_plot, plot_svg, then_and_now_svg
from harness.render.rows import PlotLink, anchor_of
from harness.scorecard import Scorecard


@dataclass(frozen=True)
class PlotView:
    """One plot with its numbers; `problem` says why it could not be drawn, and is empty otherwise."""

    anchor: str
    title: str
    nodeid: str
    rows: tuple[tuple[str, str], ...]
    svg: Markup = field(default_factory=Markup)
    gaps: int = 0
    columns: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    problem: str = ""


def gallery(scorecard: Scorecard) -> tuple[PlotView, ...]:
    """Every plot that a check attached, in the order of the checks."""
    found = [
        (record, name, attachment)
        for record in scorecard.checks
        for name, attachment in record.attachments.items()
        if is_plot(attachment)
    ]
    return tuple(_plot_view(*each, anchor=f"plot-{index}") for index, each in enumerate(found, start=1))


def links(plots: tuple[PlotView, ...]) -> dict[str, tuple[PlotLink, ...]]:
    """The links to each check's plots, by node id."""
    found: dict[str, tuple[PlotLink, ...]] = {}
    for plot in plots:
        found[plot.nodeid] = (*found.get(plot.nodeid, ()), PlotLink(plot.anchor, plot.title))
    return found


def _plot_view(record: CheckRecord, name: str, attachment: object, anchor: str) -> PlotView:
    rows = tuple((identifier, anchor_of(identifier)) for identifier in record.criteria)
    try:
        return plot_view(parse_plot(attachment), anchor, rows, record.nodeid)
    except AuditError as error:
        return PlotView(anchor, clean(name), record.nodeid, rows, problem=clean(str(error)))


def plot_view(spec: PlotSpec, anchor: str, rows: tuple[tuple[str, str], ...] = (), nodeid: str = "") -> PlotView:
    """A plot as the report shows it, with links (a text and an anchor) to the `rows` that it belongs to."""
    return PlotView(
        anchor=anchor,
        title=clean(spec.title),
        nodeid=nodeid,
        rows=rows,
        svg=Markup(plot_svg(spec, anchor)),
        gaps=spec.gaps,
        columns=tuple(map(clean, (spec.x_label, *spec.y))),
        table=tuple(_table_row(spec, index) for index in range(len(spec.x))),
    )


def _table_row(spec: PlotSpec, index: int) -> tuple[str, ...]:
    entry = spec.x[index]
    first = clean(entry) if isinstance(entry, str) else number(entry)
    values = (series[index] for series in spec.y.values())
    return (first, *("not measured" if value is None else number(value, 6) for value in values))


def category_chart(page: Page) -> Markup:
    """Scores by category then and now, the overall score first."""
    named = [("Overall", page.then, page.now), *((each.title, each.then, each.now) for each in page.categories)]
    scores = [
        Score(title, _hundred(then.value), _hundred(now.value))
        for title, then, now in named
        if then.weight or now.weight
    ]
    title = "Scores by category, then and now; the table gives the numbers"
    return Markup(then_and_now_svg(scores, "chart-categories", title))


def published_chart(scorecard: Scorecard) -> Markup:
    """The forensic audit's own scores as published, and what the same rows give now; empty when there are none."""
    scores = [
        Score(f"{row.title} ({row.section})", then, None if row.status is Status.GREY else audit_score_now(row))
        for row in scorecard.criteria
        if row.category == "scores" and (then := as_percent(row.baseline_value)) is not None
    ]
    if not scores:
        return Markup("")
    title = "The forensic audit's own scores, as published and now"
    return Markup(then_and_now_svg(scores, "chart-published", title))


def _hundred(share: float | None) -> float | None:
    return None if share is None else 100 * share
