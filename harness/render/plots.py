"""Plots as inline SVG: the same data gives the same bytes, and colours follow the page (light or dark).

An attachment of the evidence is a plot when it is a JSON object of this shape:

    {"plot": "line" | "bar", "title": str, "x": [...], "y": {series: [number | null, ...]},
     "x_label": str, "y_label": str}

`x` holds numbers (a line's abscissae) or strings (names, in the order to be drawn); every series has one value for each
entry of `x`, null where nothing was measured. Optional keys: "x_scale" and "y_scale" ("linear" or "log"), "limits"
({name: number}), horizontal lines for targets, "guides" ([series, ...]), lines without marks under which the other
series stand as marks without lines, "intervals" ({series: [[low, high] | null, ...]}), drawn as whiskers,
and "timing" (true: its numbers come from clocks). The convention is checked here and nowhere else.
"""

import math
import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import AuditError
from harness.render.numbers import percent

Number = float | None
Scale = Literal["linear", "log"]

# Placeholders that matplotlib draws with; the page's style sheet decides what they look like.
INK, FAINT, _PAPER = "#0a0b0c", "#1a1b1c", "#2a2b2c"
SERIES = ("#3a0001", "#3a0002", "#3a0003", "#3a0004", "#3a0005", "#3a0006")
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)", _PAPER: "var(--paper)"} | {
    colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, start=1)
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")  # more than colours: these come again
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\")
_WIDTH = 4.9  # inches: 353 units, so that text keeps its size on a phone
_MOST_NAMES = 12

RC: dict[str, Any] = {
    "svg.hashsalt": "bitnet-audit",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.5,
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "hatch.color": _PAPER,
    "hatch.linewidth": 0.8,
    "lines.linewidth": 1.8,
}


class PlotSpec(BaseModel):
    """One plot, as evidence attaches it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plot: Literal["line", "bar"]
    title: str
    x: list[float] | list[str] = Field(min_length=1)
    y: dict[str, list[Number]] = Field(min_length=1)
    x_label: str
    y_label: str
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    limits: dict[str, float] = Field(default_factory=dict)
    guides: list[str] = Field(default_factory=list)
    intervals: dict[str, list[tuple[float, float] | None]] = Field(default_factory=dict)
    timing: bool = False

    @model_validator(mode="after")
    def _lengths_agree(self) -> "PlotSpec":
        for series, values in self.y.items():
            if len(values) != len(self.x):
                raise ValueError(f"series {series!r} has {len(values)} values for {len(self.x)} entries of x")
        for series in self.guides:
            if series not in self.y:
                raise ValueError(f"the guide {series!r} is no series")
        for series, ends in self.intervals.items():
            if len(ends) != len(self.y.get(series, ())):
                raise ValueError(f"the intervals of {series!r} are not one for each value of a series of that name")
        return self

    def whiskers(self, series: str) -> list[tuple[float, float]]:
        """How far each interval reaches below and above its value; NaN where there is none."""
        ends = self.intervals.get(series, [None] * len(self.x))
        pairs = zip(_clean(self.y[series]), ends, strict=True)
        return [(math.nan, math.nan) if each is None else (value - each[0], each[1] - value) for value, each in pairs]

    @property
    def named(self) -> bool:
        """True when x holds names, not numbers."""
        return isinstance(self.x[0], str)

    @property
    def gaps(self) -> int:
        """How many values are missing or not finite; they are left out of the drawing, never drawn as zero."""
        return sum(1 for values in self.y.values() for value in values if value is None or not math.isfinite(value))


@dataclass(frozen=True)
class Score:
    """One line of the then-and-now chart; values in percent, None where nothing was measured."""

    name: str
    then: Number
    now: Number


def is_plot(attachment: object) -> bool:
    """Whether an attachment claims to be a plot."""
    return isinstance(attachment, Mapping) and "plot" in attachment


def parse_plot(attachment: object) -> PlotSpec:
    """The validated plot of an attachment.

    Raises:
        AuditError: the attachment breaks the convention of this module; the sentence says where.
    """
    try:
        return PlotSpec.model_validate(attachment)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "plot"
        message = re.sub(r"^Value error, ", "", first["msg"])
        raise AuditError(
            f"The plot cannot be drawn, because of its {place}: {message}; see harness/render/plots.py."
        ) from error


def plot_svg(spec: PlotSpec, prefix: str) -> str:
    """The plot as an `<svg>` element whose ids start with `prefix`, unique in the page that embeds it."""
    with matplotlib.style.context(RC, after_reset=True):
        legend_rows = math.ceil((len(spec.y) + len(spec.limits)) / 2)
        height = 3.0 + 0.2 * max(0, legend_rows - 2)  # a long legend takes nothing from the drawing
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot(xlabel=spec.x_label, ylabel=spec.y_label)
        (_draw_bars if spec.plot == "bar" else _draw_lines)(axes, spec)
        for name, value in spec.limits.items():
            axes.axhline(value, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=name)
        axes.set_yscale(spec.y_scale)
        if not spec.named and spec.plot == "line":
            axes.set_xscale(spec.x_scale)
        for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
            if scale == "log":
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
                axis.set_minor_locator(NullLocator())
        axes.grid(visible=False, axis="x")
        if len(spec.y) + len(spec.limits) > 1:
            figure.legend(loc="outside upper left", ncols=2)
        return inline_svg(figure, prefix, spec.title)


def _clean(values: Sequence[Number]) -> list[float]:
    """NaN wherever there is no finite value, so that the drawing has a gap."""
    return [value if value is not None and math.isfinite(value) else math.nan for value in values]


def _draw_lines(axes: Axes, spec: PlotSpec) -> None:
    positions = [float(place) for place in (range(len(spec.x)) if spec.named else spec.x)]
    for index, (series, values) in enumerate(spec.y.items()):
        style = index % len(SERIES)
        marker = _MARKERS[index % len(_MARKERS)] if len(spec.x) <= 40 else None
        dashes, size, colour = _DASHES[style], max(7.5 - 2 * style, 3), SERIES[style]
        if series in spec.guides:
            dashes, marker, colour = "-", None, INK
        elif spec.guides:
            dashes, size = "none", 6.5
        axes.plot(positions, _clean(values), color=colour, linestyle=dashes, marker=marker, label=series)[
            0
        ].set_markersize(size)
        _draw_whiskers(axes, spec, series, positions)
    if spec.named:
        _name_ticks(axes, spec)


def _draw_bars(axes: Axes, spec: PlotSpec) -> None:
    width = 0.8 / len(spec.y)
    for index, (series, values) in enumerate(spec.y.items()):
        style = index % len(SERIES)
        offset = (index - (len(spec.y) - 1) / 2) * width
        positions = [position + offset for position in range(len(spec.x))]
        bars = axes.bar(
            positions, _clean(values), width, color=SERIES[style], hatch=_HATCHES[style], linewidth=0, label=series
        )
        _draw_whiskers(axes, spec, series, positions)
        if len(spec.x) * len(spec.y) <= 10:
            labels = [short_number(value) for value in values]
            axes.bar_label(bars, labels=labels, padding=2, fontsize=8)
    _name_ticks(axes, spec)


def _draw_whiskers(axes: Axes, spec: PlotSpec, series: str, positions: Sequence[float]) -> None:
    if series in spec.intervals:
        below, above = zip(*spec.whiskers(series), strict=True)
        axes.errorbar(positions, _clean(spec.y[series]), (below, above), fmt="none", ecolor=INK, elinewidth=1.2)


def _name_ticks(axes: Axes, spec: PlotSpec) -> None:
    step = math.ceil(len(spec.x) / _MOST_NAMES)
    names = [entry if isinstance(entry, str) else short_number(entry) for entry in spec.x]
    common = os.path.commonprefix(names) if len(names) > _MOST_NAMES else ""  # noqa: RUF071 - no paths
    if common:
        axes.set_xlabel(f"{spec.x_label} ({common}…)")
    names = [name.removeprefix(common) for name in names[::step]]
    crowded = sum(len(name) for name in names) > 45
    rotation, align = (40, "right") if crowded else (0, "center")
    axes.set_xticks(range(0, len(spec.x), step), names, rotation=rotation, ha=align, rotation_mode="anchor")
    axes.set_xlim(-0.6, len(spec.x) - 0.4)


def short_number(value: Number) -> str:
    """Three significant digits for a label in a drawing; an empty string for a gap."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def then_and_now_svg(scores: Sequence[Score], prefix: str, title: str) -> str:
    """Then (open circle) and now (filled diamond) on one track per score, named above the track."""
    with matplotlib.style.context(RC | {"font.size": 10.5}, after_reset=True):
        figure = Figure(figsize=(_WIDTH, 0.6 + 0.42 * len(scores)), layout="constrained")
        axes = figure.add_subplot()
        for row, score in enumerate(scores):
            axes.plot([0, 100], [row, row], color=FAINT, linewidth=1.2, zorder=1)
            if score.then is not None and score.now is not None:
                axes.plot([score.then, score.now], [row, row], color=SERIES[0], linewidth=3.2, alpha=0.45, zorder=2)
            if score.then is not None:
                axes.plot(score.then, row, "o", markerfacecolor=_PAPER, markeredgecolor=INK, markersize=7, zorder=3)
            if score.now is not None:
                axes.plot(score.now, row, "D", color=SERIES[0], markersize=6.5, zorder=4)
            axes.text(0, row - 0.24, score.name, va="bottom")
            axes.text(100, row - 0.24, _then_to_now(score), va="bottom", ha="right")
        axes.set_ylim(len(scores) - 0.5, -0.75)
        axes.set_xlim(-2, 102)
        axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        return inline_svg(figure, prefix, title)


def _then_to_now(score: Score) -> str:
    then = "not audited" if score.then is None else percent(score.then / 100)
    now = "not measured" if score.now is None else percent(score.now / 100)
    return f"{then} → {now}"


def inline_svg(figure: Figure, prefix: str, title: str) -> str:
    """A figure drawn under `RC`, as SVG fit to stand in an HTML page.

    It has no prolog, style sheet or foreign ids, and its colours are the page's variables.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.attrib = {_local(name): _restyled(_local(name), value) for name, value in element.attrib.items()}
    _rename_ids(root, prefix)
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.attrib = {"class": "plot", "viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _restyled(name: str, value: str) -> str:
    """An attribute with the page's own colours and font; matplotlib names fonts that the reader may not have."""
    if name not in ("style", "fill", "stroke"):
        return value
    for colour, variable in _VARIABLES.items():
        value = value.replace(colour, variable)
    return re.sub(r"\bfont: ([\d.]+)px [^;]*", r"font-size: \1px", re.sub(r"\bfont-family: [^;]*;? ?", "", value))


def _local(name: str) -> str:
    return name.partition("}")[2] if name.startswith("{") else name


def _refers(name: str, value: str) -> bool:
    return name == "href" or "url(#" in value


def _rename_ids(root: ElementTree.Element, prefix: str) -> None:
    """Keep only the ids that something refers to, and make them the page's own."""
    references = re.compile(r"(?<=^#)[\w-]+|(?<=url\(#)[\w-]+")
    used = {
        match
        for element in root.iter()
        for name, value in element.attrib.items()
        if _refers(name, value)
        for match in references.findall(value)
    }
    for element in root.iter():
        if element.attrib.get("id") in used:
            element.attrib["id"] = f"{prefix}-{element.attrib['id']}"
        else:
            element.attrib.pop("id", None)
        for name, value in element.attrib.items():
            if _refers(name, value):
                element.attrib[name] = references.sub(rf"{prefix}-\g<0>", value)
