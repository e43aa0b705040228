"""Charts of the dashboard, for light and dark themes; every colour is also said in words or by position."""

import json
from collections.abc import Sequence

import altair as alt
import pandas as pd

from bitnet.dashboard.layers import Bar
from bitnet.dashboard.scorecards import Category, Scorecard
from bitnet.dashboard.text import COLOURS

#: A line and points that are legible on white and on black.
BLUE = "#3f7fd0"
#: So many layers have room for their names.
_LABELLED = 30
_STATUS_SCALE = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))


def categories(rows: Sequence[Category]) -> alt.LayerChart:
    """How many criteria of each category have which status: stacked bars with the numbers in them."""
    table = pd.DataFrame(
        {"category": row.title, "status": name, "criteria": count, "order": list(COLOURS).index(name)}
        for row in rows
        for name, count in row.counts.items()
        if count and name in COLOURS
    )
    base = alt.Chart(table).encode(
        y=alt.Y("category:N", sort=[row.title for row in rows], title=None, axis=alt.Axis(labelLimit=260)),
        x=alt.X("criteria:Q", stack="zero", title="criteria", axis=alt.Axis(tickMinStep=1)),
        order="order:Q",
    )
    colour = alt.Color("status:N", scale=_STATUS_SCALE, sort=list(COLOURS), legend=alt.Legend(orient="top", title=None))
    bars = base.mark_bar().encode(color=colour, tooltip=["category", "status", "criteria"])
    numbers = base.mark_text(dx=-9, color="white").encode(text="criteria:Q")
    chart: alt.LayerChart = (bars + numbers).properties(height=32 * len(rows) + 60)
    return chart


def history(scorecards: Sequence[Scorecard], names: Sequence[str]) -> alt.Chart:
    """Scores over time, "overall" and categories by their titles, in percent."""
    table = pd.DataFrame(
        {"started": each.started, "score": 100 * score.score, "of": name, "revision": each.revision}
        for each in scorecards
        for name, score in {"overall": each.overall, **{one.title: one for one in each.categories}}.items()
        if name in names and score.score is not None
    )
    chart: alt.Chart = (
        alt.Chart(table)
        .mark_line(point={"size": 70})
        .encode(
            x=alt.X("started:T", title=None, axis=alt.Axis(format="%d %b %H:%M", labelOverlap=True)),
            y=alt.Y("score:Q", title="score, %", scale=alt.Scale(domain=[0, 100])),
            color=alt.Color("of:N", sort=list(names), legend=alt.Legend(orient="top", title=None, labelLimit=260)),
            strokeDash=alt.StrokeDash("of:N", sort=list(names), legend=None),
            tooltip=["of", "score", "started", "revision"],
        )
        .properties(height=340)
    )
    return chart


def intervals(table: pd.DataFrame, title: str, limit: float | None = None) -> alt.LayerChart:
    """Points with their 95 % intervals: columns `name`, `value`, `low` and `high` (the last two may be missing)."""
    names = alt.Y("name:N", sort=list(table["name"]), title=None, axis=alt.Axis(labelLimit=260))
    base = alt.Chart(table)
    points = base.mark_point(filled=True, size=90, color=BLUE).encode(
        x=alt.X("value:Q", title=title, scale=alt.Scale(zero=False)), y=names, tooltip=["name", "value", "low", "high"]
    )
    rules = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=3, color=BLUE)
    layers = [rules.encode(x="low:Q", x2="high:Q", y=names), points]
    if limit is not None:
        line = alt.Chart(pd.DataFrame({"limit": [limit]})).mark_rule(strokeDash=[5, 4], color=COLOURS["RED"])
        layers.append(line.encode(x="limit:Q", tooltip=["limit"]))
    return alt.LayerChart(layer=layers, height=44 * len(table) + 60)


def per_layer(table: pd.DataFrame, column: str, title: str) -> alt.Chart:
    """One figure of every layer: columns `layer`, in the order of the model, and the figure's."""
    names = {layer: _short(layer) for layer in table["layer"]}
    axis = alt.Axis(labels=len(table) <= _LABELLED, ticks=False, labelExpr=f"{json.dumps(names)}[datum.value]")
    chart: alt.Chart = (
        alt.Chart(table)
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("layer:N", sort=None, title=None, axis=axis),
            y=alt.Y(f"{column}:Q", title=title),
            tooltip=["layer", column],
        )
        .properties(height=260)
    )
    return chart


def _short(layer: str) -> str:
    """The numbers in a layer's name and its last part: "0 q_proj"."""
    *path, last = layer.split(".")
    return " ".join([*(part for part in path if part.isdigit()), last])


def scale_bars(bars: Sequence[Bar]) -> alt.Chart:
    """A histogram of scales over the range of all `bars`, in the order of the values."""
    table = pd.DataFrame({"low": bar.low, "high": bar.high, "scales": bar.count} for bar in bars)
    chart: alt.Chart = (
        alt.Chart(table)
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("low:Q", title="scale", bin="binned"),
            x2="high:Q",
            y=alt.Y("scales:Q", title="scales"),
            tooltip=["low", "high", "scales"],
        )
        .properties(height=160)
    )
    return chart


def training(table: pd.DataFrame) -> alt.Chart:
    """Loss over the steps of a recovery: columns `step`, `loss` and `of`."""
    chart: alt.Chart = (
        alt.Chart(table)
        .mark_line(point=True)
        .encode(
            x=alt.X("step:Q"),
            y=alt.Y("loss:Q", scale=alt.Scale(zero=False), title="loss, nats a token"),
            color=alt.Color("of:N", legend=alt.Legend(orient="top", title=None)),
            strokeDash=alt.StrokeDash("of:N", legend=None),
            tooltip=["of", "step", "loss"],
        )
        .properties(height=260)
    )
    return chart
