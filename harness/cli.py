"""The command line `bitnet-audit`: run, bench, gate, diff, report. Bad input ends with one sentence and exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness import bench as benchmark
from harness import render
from harness import run as running
from harness.criteria import load_rulebook
from harness.diff import Diff, compare
from harness.errors import AuditError
from harness.files import write_text
from harness.gate import check_file, load_thresholds
from harness.render.console import print_scorecard
from harness.render.targets import print_targets
from harness.scorecard import SCORECARD_FILE, load

Format = Literal["md", "html", "junit", "summary", "svg"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Audit an implementation of ternary (1.58-bit) models, and set it beside the forensic audit.",
)


@app.command()
def run(
    subject: Annotated[str, typer.Option(help="A name, or path/to/file.py:factory.")] = "bitnet",
    profile: Annotated[Literal["quick", "full"], typer.Option(help="Which checks run.")] = "quick",
    model: Annotated[list[str] | None, typer.Option(help="A model to audit with; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the reports go (default: reports/latest).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="A criterion to measure alone, * allowed; repeatable.")] = None,
) -> None:
    """Run the suites on a subject and write the scorecard; exit 0 if the run was complete, whatever the colours.

    A run of everything into reports/latest is also kept in reports/history. A run with --only goes to reports/only.

    \b
    Examples:
      bitnet-audit run
      bitnet-audit run --model tiny --only A.packing-exact --only "1.1.*"
      bitnet-audit run --subject my_quantizer.py:factory --profile full --out reports/mine
    """
    for criterion in only or ():
        if not load_rulebook().matching([criterion]):
            raise AuditError(f"there is no criterion {criterion!r}; their ids are in the table of any scorecard")
    directory = out or (running.ONLY_OUT if only else running.DEFAULT_OUT)
    request = running.Request(subject, profile, tuple(model or ()), seed, tuple(only or ()), directory)
    scorecard = running.audit(request)
    render.write_reports(scorecard, directory)
    if directory == running.DEFAULT_OUT and not only:
        running.keep_in_history(scorecard)
    print_scorecard(scorecard, directory)
    for problem in scorecard.problems:
        typer.echo(f"incomplete: {problem}", err=True)
    raise typer.Exit(0 if scorecard.complete else 1)


@app.command()
def bench(
    subject: Annotated[str, typer.Option(help="A name, or path/to/file.py:factory.")] = "bitnet",
    model: Annotated[list[str] | None, typer.Option(help="A model to measure with (default: smollm2-135m).")] = None,
    out: Annotated[Path, typer.Option(help="Where the table, the times and the scorecard go.")] = benchmark.OUT,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
) -> None:
    """Measure speed against every opponent that is installed, and print the table of targets; exit 0 if complete.

    `nox -s bench` runs it where all of them are.

    \b
    Example:
      bitnet-audit bench --out reports/bench
    """
    scorecard = benchmark.bench(subject, tuple(model or ()), out, seed)
    print_targets(scorecard)
    typer.echo(f"Reports: {out / benchmark.TABLE}, {out / benchmark.TIMES}, {out / 'scorecard.html'}")
    for problem in scorecard.problems:
        typer.echo(f"incomplete: {problem}", err=True)
    raise typer.Exit(0 if scorecard.complete else 1)


@app.command()
def gate(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard.json.")] = running.DEFAULT_OUT / SCORECARD_FILE,
    pyproject: Annotated[Path, typer.Option(help="Where the thresholds are.")] = Path("pyproject.toml"),
) -> None:
    """Hold a scorecard to the thresholds in [tool.bitnet-audit.gate]; exit 1 with one line for each breach.

    \b
    Example:
      bitnet-audit gate reports/latest/scorecard.json
    """
    breaches = check_file(scorecard, load_thresholds(pyproject))
    for breach in breaches:
        typer.echo(str(breach))
    if not breaches:
        typer.echo(f"{scorecard}: every threshold is held")
    raise typer.Exit(1 if breaches else 0)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The older scorecard.json.")],
    after: Annotated[Path, typer.Argument(help="The newer scorecard.json.")],
) -> None:
    """Show what changed from one scorecard to another: scores, statuses and figures.

    \b
    Example:
      bitnet-audit diff reports/history/OLD.json reports/latest/scorecard.json
    """
    for line in _lines(compare(load(before), load(after))):
        typer.echo(line)


@app.command()
def report(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard.json.")] = running.DEFAULT_OUT / SCORECARD_FILE,
    format: Annotated[Format, typer.Option(help="Markdown, HTML, JUnit, CI step summary or a picture.")] = "md",
    out: Annotated[Path | None, typer.Option(help="A file; without it, standard output.")] = None,
) -> None:
    """Render a scorecard in one format.

    \b
    Examples:
      bitnet-audit report --format html --out scorecard.html
      bitnet-audit report reports/latest/scorecard.json --format svg --out docs/scorecard.svg
    """
    text = render.FORMATS[format](load(scorecard))
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


def _lines(changes: Diff) -> list[str]:
    lines = [f"before: {changes.before}", f"after:  {changes.after}"]
    lines.append(f"overall: {_percent(changes.overall_before)} -> {_percent(changes.overall_after)}")
    for row in changes.statuses:
        lines.append(f"{row.id}: {row.before or 'absent'} -> {row.after or 'absent'} ({row.direction})")
    for figure in changes.figures:
        unit = f" {figure.unit}" if figure.unit else ""
        moved = f"{_number(figure.before)} -> {_number(figure.after)}{unit} ({figure.direction})"
        lines.append(f"{figure.id}/{figure.name}: {moved}")
    if not changes.statuses and not changes.figures:
        lines.append("no status and no figure changed")
    return lines


def _percent(score: float | None) -> str:
    return "not measured" if score is None else f"{100 * score:.1f} %"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.6g}"


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without some symbol shows "?" in its place
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app()
    except AuditError as error:
        if not isinstance(error, running.RefusedError):
            typer.echo(str(error), err=True)
        raise SystemExit(2) from None
