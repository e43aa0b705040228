"""How the scores and key figures of one subject moved from run to run, as plots and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

from harness.comparison import Comparison
from harness.criteria import load_rulebook
from harness.history import History, Point
from harness.render.gallery import PlotView, plot_view
from harness.render.numbers import clean, percent, plural
from harness.render.plots import FAINT, RC, SERIES, PlotSpec, inline_svg
from harness.render.rows import anchor_of
from harness.status import RowFigure

MOST_RUNS = 40


@dataclass(frozen=True)
class Panel:
    """The score of one category: its latest value in words and a small drawing of the way there."""

    title: str
    value: str
    svg: Markup


@dataclass(frozen=True)
class Trends:
    """The section of a report, from the oldest run to the newest one."""

    summary: str
    unreadable: tuple[str, ...]
    overall: PlotView
    panels: tuple[Panel, ...]
    figures: tuple[PlotView, ...]


def trends(history: History) -> Trends | None:
    """The latest runs, up to `MOST_RUNS` of them; None where there are not yet two."""
    points = history.points[-MOST_RUNS:]
    if len(points) < 2:
        return None
    summary = f"{plural(len(points), 'run')} of this subject, profile and models, the newest one last"
    figures = [name for name in load_rulebook().trends if sum(name in point.figures for point in points) > 1]
    return Trends(
        summary=summary,
        unreadable=tuple(map(clean, history.unreadable)),
        overall=_overall(points),
        panels=_panels(points),
        figures=tuple(_figure(points, name, f"trend-{index}") for index, name in enumerate(figures, start=1)),
    )


def names_of(points: Sequence[Point]) -> list[str]:
    """A name for each run: its day, with the year or the time where that tells runs apart, and its commit."""
    days = {point.started.date() for point in points}
    form = "%m-%d" if len({day.year for day in days}) == 1 else "%Y-%m-%d"
    form += "" if len(days) == len(points) else " %H:%M"
    return [f"{point.started.strftime(form)} {point.commit[:7]}".strip() for point in points]


def _overall(points: Sequence[Point]) -> PlotView:
    spec = PlotSpec(
        plot="line",
        title="Overall score",
        x=names_of(points),
        y={"overall": [_hundred(point.overall) for point in points]},
        x_label="run",
        y_label="%",
    )
    return plot_view(spec, "trend-overall")


def _figure(points: Sequence[Point], name: str, anchor: str) -> PlotView:
    found = [point.figures.get(name) for point in points]
    latest = next(figure for figure in reversed(found) if figure)
    row, _, figure = name.partition("/")
    intervals = [_interval(each) for each in found]
    spec = PlotSpec(
        plot="line",
        title=figure,
        x=names_of(points),
        y={figure: [each.value if each and math.isfinite(each.value) else None for each in found]},
        x_label="run",
        y_label=latest.unit or "value",
        limits=_limits(latest.target),
        intervals={figure: intervals} if any(intervals) else {},
    )
    return plot_view(spec, anchor, ((row, anchor_of(row)),))


def _interval(figure: RowFigure | None) -> tuple[float, float] | None:
    """The interval as whiskers can show it: around its value, with two finite ends."""
    if figure is None or figure.interval is None or not all(map(math.isfinite, (figure.value, *figure.interval))):
        return None
    return min(figure.interval[0], figure.value), max(figure.interval[1], figure.value)


def _limits(target: str) -> dict[str, float]:
    comparison = Comparison.parse(target)
    if comparison.operator == "within":
        return {"target, low end": comparison.low, "target, high end": comparison.high}
    return {f"target {comparison.text}": comparison.low}


def _panels(points: Sequence[Point]) -> tuple[Panel, ...]:
    panels = []
    for identifier, title in load_rulebook().categories.items():
        scores = [_hundred(point.categories.get(identifier)) for point in points]
        if any(score is not None for score in scores):
            value = "not measured" if scores[-1] is None else percent(scores[-1] / 100)
            panels.append(Panel(title, value, _panel(scores, f"trend-{identifier}", f"{title}: {value} now")))
    return tuple(panels)


def _panel(scores: Sequence[float | None], prefix: str, title: str) -> Markup:
    with matplotlib.style.context(RC, after_reset=True):
        drawing = Figure(figsize=(2.9, 0.75), layout="constrained")
        axes = drawing.add_subplot()
        values = [math.nan if score is None else score for score in scores]
        axes.plot(range(len(values)), values, color=SERIES[0], zorder=3)
        axes.plot(len(values) - 1, values[-1], "o", color=SERIES[0], markersize=5, zorder=3)
        for end in (0, 100):
            axes.axhline(end, color=FAINT, linewidth=0.8, zorder=1)
        margin = 0.03 * (len(values) - 1)
        axes.set_xlim(-margin, len(values) - 1 + margin)
        axes.set_ylim(-8, 108)
        axes.axis("off")
        return Markup(inline_svg(drawing, prefix, title))


def _hundred(share: float | None) -> float | None:
    return None if share is None else 100 * share
