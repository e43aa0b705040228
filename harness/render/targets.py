"""The table of speed targets: each row's target, what was measured, and the arms that it was measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.evidence import CheckRecord
from harness.render.numbers import number, with_unit
from harness.render.rows import MARKS
from harness.scorecard import Row, Scorecard

CATEGORY = "speed"
_RATE = "rate of "
_STYLES = {"GREEN": "green", "YELLOW": "yellow", "RED": "red", "GREY": "bright_black"}


@dataclass(frozen=True)
class Target:
    """One row of the table; `measured` and `interval` are empty where nothing was."""

    title: str
    target: str
    measured: str
    interval: str
    status: str
    symbol: str
    reason: str


@dataclass(frozen=True)
class RaceView:
    """One race: its name, the rate of each arm and what was said about it."""

    title: str
    rates: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def targets(scorecard: Scorecard) -> tuple[Target, ...]:
    """Every row of the category, in the order of the rulebook; the worst measurement stands for a row."""
    return tuple(_target(row) for row in scorecard.criteria if row.category == CATEGORY)


def _target(row: Row) -> Target:
    mark, worst = MARKS[row.status], next(iter(row.figures), None)
    measured, interval, target = "", "", ""
    if worst is not None:
        target = with_unit(worst.target, worst.unit)
        measured = with_unit(number(worst.value), worst.unit)
        interval = " to ".join(map(number, worst.interval)) if worst.interval else ""
    return Target(row.title, target, measured, interval, mark.word, mark.symbol, "" if worst else row.reason)


def races(scorecard: Scorecard) -> tuple[RaceView, ...]:
    """Every race that was run, once, with the rates of its arms."""
    wanted = {check for row in scorecard.criteria if row.category == CATEGORY for check in row.checks}
    found: dict[str, RaceView] = {}
    for record in scorecard.checks:
        if record.nodeid in wanted and (title := _race(record)):
            found.setdefault(title, RaceView(title, _rates(record), record.notes[1:]))
    return tuple(found.values())


def _race(record: CheckRecord) -> str:
    first = next(iter(record.notes), "")
    return first.removeprefix("race: ") if first.startswith("race: ") else ""


def _rates(record: CheckRecord) -> tuple[tuple[str, str], ...]:
    rates = [(name, figure) for name, figure in record.figures.items() if name.startswith(_RATE)]
    return tuple((name.removeprefix(_RATE), with_unit(number(each.value), each.unit)) for name, each in rates)


def render_targets(scorecard: Scorecard) -> str:
    """The table and the races as Markdown."""
    environment = scorecard.environment
    lines = [
        f"# Speed of {scorecard.subject.name} {scorecard.subject.version} against named opponents",
        "",
        f"{environment.cpu}, {environment.cores} cores, one thread for every arm; {scorecard.started}.",
        "Ratios with 95 % intervals, all arms of a race interleaved in one run.",
        "",
        *_table(
            ("What", "Target", "Measured", "95 % interval", "Status"), [_cells(each) for each in targets(scorecard)]
        ),
    ]
    for race in races(scorecard):
        lines += ["", f"## {race.title}", "", *_table(("Arm", "Rate"), race.rates), ""]
        lines += [f"- {note}" for note in race.notes]
    return "\n".join(lines) + "\n"


def _cells(row: Target) -> tuple[str, ...]:
    status = f"{row.symbol} {row.status}" + (f": {row.reason}" if row.reason else "")
    return (row.title, row.target, row.measured, row.interval, status)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    escaped.insert(1, ["---"] * len(head))
    return [f"| {' | '.join(row)} |" for row in escaped]


def print_targets(scorecard: Scorecard, console: Console | None = None) -> None:
    """The table on a terminal, and what each arm ran with."""
    console = console or Console(highlight=False)
    table = Table(box=SIMPLE_HEAD, title=f"Speed of {scorecard.subject.name}, one thread, 95 % intervals")
    for name in ("What", "Target", "Measured", "95 % interval", "Status"):
        table.add_column(name)
    for row in targets(scorecard):
        *cells, status = _cells(row)
        table.add_row(*map(Text, cells), Text(status, style=_STYLES[row.status]))
    console.print(table)
    for note in dict.fromkeys(note for race in races(scorecard) for note in race.notes):
        console.print(Text(f"  {note}", style="bright_black"))
