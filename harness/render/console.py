"""The scorecard on a terminal, and a picture of it for a README: the same words as in the other reports.

`bitnet-audit report SCORECARD.json --format svg --out docs/scorecard.svg` makes the picture; it needs no browser, and
the file loads nothing from anywhere.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import quoteattr

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from harness.criteria import Status
from harness.render.arithmetic import Share
from harness.render.page import Category, Count, Page, build_page
from harness.render.rows import MARKS, FigureView, Mark, RowView
from harness.scorecard import Scorecard

WIDTH = 100  # columns of the picture, and of output that goes to a file or a pipe
_STYLES = {"GREEN": "green", "YELLOW": "yellow", "RED": "red", "GREY": "bright_black"}
_BLOCKS = {"GREEN": "█", "YELLOW": "▓", "RED": "▒", "GREY": "·"}
_BAR = 14  # characters of a bar
_PICTURED = ("architecture",)  # categories that the picture shows row by row


def print_scorecard(scorecard: Scorecard, directory: Path | None = None, console: Console | None = None) -> None:
    """Print every row by category, then the scores, and where the reports in `directory` are.

    The scores come last, because that is what stays in sight on a terminal.
    """
    console = console or _console()
    page = build_page(scorecard)
    console.print(_text(f"Then (the forensic audit of {page.baseline_date}) and now, row by row\n", style="bold"))
    for category in page.categories:
        console.print(_category(category))
    console.print(_scores(page))
    console.print(_headline(page))
    if directory is not None:
        console.print(_text(f"Reports: {directory / 'scorecard.html'} (also .md and .json)"), soft_wrap=True)


def _console() -> Console:
    """Standard output; as wide as a terminal is, else WIDTH, and without colours where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def render_svg(scorecard: Scorecard) -> str:
    """A picture of the headline, the scores and the first rows; the same scorecard gives the same bytes."""
    page = build_page(scorecard)
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    shown = [_category(each) for each in page.categories if each.id in _PICTURED]
    console.print(Group(_headline(page), _scores(page), *shown))
    return _standalone(
        console.export_svg(title="bitnet-audit", unique_id="scorecard"), f"{page.headline}. {page.verdict}"
    )


def _standalone(svg: str, alternative: str) -> str:
    """Rich's drawing without the fonts that it would load from elsewhere, and with its contents in words."""
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-variant-east-asian: full-width;", "")
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    svg = svg.replace("<svg ", f'<svg role="img" aria-label={quoteattr(alternative)} ', 1)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


# --------------------------------------------------------------------------- parts


def _headline(page: Page) -> RenderableType:
    lines = [_text(page.headline, style="bold"), _text(page.verdict)]
    if page.problems:
        lines.append(_text("This run is not complete:", style="bold red"))
        lines += [_text(f"  ✗ {problem}", style="red") for problem in page.problems]
    if page.restriction:
        lines.append(_text(f"Restricted to {page.restriction}: the other rows were left unmeasured on purpose."))
    now, *then = (f"{tile.label.lower()} {tile.value}" for tile in page.tiles)
    lines.append(_text(f"{now.capitalize()}; the forensic audit of {page.baseline_date}: {', '.join(then)}."))
    lines.append(_text(", ".join(f"{name.lower()} {value}" for name, value in page.facts), style="dim"))
    return Panel(Group(*lines), expand=True, border_style="red" if page.problems else "none")


def _scores(page: Page) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1))
    table.add_column("Category", ratio=1)
    for name in ("Then", "Now"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Rows", no_wrap=True)
    for mark in page.marks:
        table.add_column(_text(mark.symbol, style=_STYLES[mark.word]), justify="right", no_wrap=True)
    for each in page.categories:
        _score_row(table, each.title, each.then, each.now, each.counts)
    table.add_section()
    _score_row(table, "Overall", page.then, page.now, page.counts, style="bold")
    legend = ", ".join(f"{_BLOCKS[mark.word]} {mark.symbol} {mark.word} {mark.meaning}" for mark in page.marks)
    return Group(table, Padding(_text(legend, style="dim"), (0, 0, 1, 1)))


def _score_row(table: Table, title: str, then: Share, now: Share, counts: Iterable[Count], style: str = "") -> None:
    told = list(counts)
    cells = [_text(title), _text(then.text), _text(now.text), _bar(told)]
    table.add_row(*cells, *(_text(str(count.number)) for count in told), style=style)


def _bar(counts: list[Count]) -> Text:
    """Each status as its share of the bar, in its own pattern; a status that occurs is never rounded away."""
    total = sum(count.number for count in counts)
    if not total:
        return Text()
    cells = {count.mark.word: max(1, round(_BAR * count.number / total)) for count in counts if count.number}
    while sum(cells.values()) != _BAR:
        widest = max(cells, key=cells.__getitem__)
        cells[widest] += 1 if sum(cells.values()) < _BAR else -1
    return Text.assemble(*((_BLOCKS[word] * width, _STYLES[word]) for word, width in cells.items()))


def _category(category: Category) -> RenderableType:
    heading = Text.assemble((category.title, "bold"), ("  " + category.summary, "dim"))
    table = Table(box=None, expand=True, show_header=False, padding=(0, 1))
    for width in (8, 8):
        table.add_column(no_wrap=True, width=width)
    table.add_column(ratio=3)
    table.add_column(ratio=5)
    for row in category.rows:
        table.add_row(_mark(row.baseline), _mark(row.status), _text(row.title), _measured(row))
    return Group(heading, table, Text())


def _mark(mark: Mark) -> Text:
    return _text(f"{mark.symbol} {mark.word}", style=_STYLES[mark.word])


def _measured(row: RowView) -> Text:
    """The figures and the reason; figures that were not measured are left to the reason, where that is all it says."""
    unmeasured = row.status is MARKS[Status.GREY]
    figures = [] if row.derived_from else [each for each in row.figures if each.verdict or not unmeasured]
    lines = [*map(_figure, figures), *([_text(row.reason)] if row.reason else [])]
    lines += [_text(row.left_out, style="dim")] if row.left_out and not unmeasured else []
    return Text("\n").join(lines)


def _figure(figure: FigureView) -> Text:
    told = Text.assemble(f"{figure.name} ", (figure.value, "bold"))
    if figure.mark and figure.verdict:
        told.append(f" {figure.mark.symbol}", style=_STYLES[figure.mark.word])
    rest = [figure.interval, figure.target and f"target {figure.target}"]
    rest += [figure.tolerance and f"tolerance {figure.tolerance}"]
    shown = ", ".join(each for each in rest if each)
    return told.append(f" ({shown})", style="dim") if shown else told


def _text(words: str, style: str = "") -> Text:
    """Text as it is: rich's own markup in it is not read."""
    return Text(words, style=style)
