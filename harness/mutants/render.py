"""The sensitivity matrix as tables: one for each suite, its mutants as rows and its checks as numbered columns."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from harness.mutants.matrix import Matrix, Trial, by_check, summary
from harness.render.markdown import text

WIDTH = 132  # columns of output that goes to a file or a pipe: the widest suite has 20 checks
_MARKS = {"assertion": "x", "figure": "f", "crash": "!", "": "·"}
_LEGEND = "x: an assertion failed; f: a figure missed its target; !: the check could not be carried out; ·: not RED"


@dataclass(frozen=True)
class Board:
    """The part of the matrix that belongs to one suite; `cells` are marks, by mutant and then by check."""

    suite: str
    checks: tuple[str, ...]
    kills: tuple[int, ...]
    trials: tuple[Trial, ...]
    cells: tuple[tuple[str, ...], ...]


def boards(matrix: Matrix) -> list[Board]:
    """The matrix by suite, in the order of the mutants; suites that nothing was shown to are left out."""
    killed_by = by_check(matrix.trials)
    found = []
    for suite in dict.fromkeys(trial.suite for trial in matrix.trials):
        checks = [check for check in matrix.checks if check.startswith(f"{suite}::")]
        trials = [trial for trial in matrix.trials if trial.suite == suite]
        cells = tuple(tuple(_MARKS[trial.red.get(check, "")] for check in checks) for trial in trials)
        names = tuple(check.partition("::")[2] for check in checks)
        kills = tuple(len(killed_by.get(check, ())) for check in checks)
        found.append(Board(suite, names, kills, tuple(trials), cells))
    return found


def problems(matrix: Matrix) -> list[str]:
    """What is not sound, a line each."""
    found = [f"{trial.fate}: {trial.id} ({trial.title}), by {trial.criterion}" for trial in matrix.survivors]
    found += [f"idle: {check}" for check in matrix.idle_checks]
    return found + [f"false alarm: {each.check} with seed {each.seed}: {each.message}" for each in matrix.false_alarms]


def aside(matrix: Matrix) -> list[str]:
    """What no mutant was shown to, and why, a line each."""
    return [f"set aside: {check}: {reason}" for check, reason in matrix.set_aside.items()]


def print_matrix(matrix: Matrix, console: Console | None = None) -> None:
    """Print a table for each suite, the checks by number below it, and then what is not sound."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console = Console(file=console.file, highlight=False, width=WIDTH)
    for board in boards(matrix):
        table = Table(title=board.suite, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("mutant", no_wrap=True)
        table.add_column("fate")
        for number, _ in enumerate(board.checks, start=1):
            table.add_column(str(number), justify="right", no_wrap=True)
        for trial, marks in zip(board.trials, board.cells, strict=True):
            table.add_row(trial.id.partition("/")[2], trial.fate, *marks)
        console.print(table)
        for number, (check, kills) in enumerate(zip(board.checks, board.kills, strict=True), start=1):
            console.print(f"{number:3} {check}: {kills}", markup=False)
        console.print()
    console.print(_LEGEND, markup=False)
    for line in (*problems(matrix), *aside(matrix)):
        console.print(line, markup=False, soft_wrap=True)


def render_markdown(matrix: Matrix) -> str:
    """The matrix for a repository; what is not sound comes first."""
    lines = ["# Sensitivity of the checks", "", f"{text(summary(matrix))}.", ""]
    lines += [f"- {text(line)}" for line in (*problems(matrix), *aside(matrix))]
    lines += ["", text(_LEGEND), ""]
    for board in boards(matrix):
        numbers = [str(number) for number, _ in enumerate(board.checks, start=1)]
        lines += [f"## {text(board.suite)}", "", f"| mutant | what is broken | fate | {' | '.join(numbers)} |"]
        lines.append("|" + "---|" * (3 + len(numbers)))
        for trial, marks in zip(board.trials, board.cells, strict=True):
            lines.append(f"| {text(trial.id)} | {text(trial.title)} | {trial.fate} | {' | '.join(marks)} |")
        lines.append("")
        for number, check, kills in zip(numbers, board.checks, board.kills, strict=True):
            lines.append(f"{number}. {text(check)}: {kills}")
        lines.append("")
    return "\n".join(lines)


def render_html(matrix: Matrix) -> str:
    """The matrix as one page, without scripts: the names of checks stand upright over their columns."""
    parts = [_HEAD, f"<h1>Sensitivity of the checks</h1><p>{escape(summary(matrix))}.</p>"]
    parts += [f"<p class=bad>{escape(line)}</p>" for line in problems(matrix)]
    parts += [f"<p>{escape(line)}</p>" for line in aside(matrix)]
    parts.append(f"<p>{escape(_LEGEND)}</p>")
    for board in boards(matrix):
        names = "".join(
            f"<th class=check><span>{escape(check.removeprefix('test_').replace('_', ' '))} ({kills})</span></th>"
            for check, kills in zip(board.checks, board.kills, strict=True)
        )
        parts.append(f"<h2>{escape(board.suite)}</h2><table><tr><th>mutant</th><th>fate</th>{names}</tr>")
        parts += [_html_row(trial, marks) for trial, marks in zip(board.trials, board.cells, strict=True)]
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>", ""])


def _html_row(trial: Trial, marks: tuple[str, ...]) -> str:
    cells = "".join(f"<td class={'hit' if mark in 'xf' else 'miss'}>{mark}</td>" for mark in marks)
    witness = escape(f"{trial.criterion}; differs in {trial.witness or 'nothing'}", quote=True)
    words = f'<td class=name title="{witness}"><b>{escape(trial.id)}</b><br>{escape(trial.title)}</td>'
    return f"<tr>{words}<td>{escape(trial.fate)}</td>{cells}</tr>"


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sensitivity of the checks</title><style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin-bottom: 2em }
td, th { border: 1px solid #ddd; padding: 2px 6px; text-align: center; vertical-align: bottom }
.name { text-align: left; max-width: 32em }
.check span { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: normal }
.hit { background: #cfe8cf }
.miss { color: #999 }
.bad { color: #a00; font-weight: bold }
</style></head><body>"""
