"""The command line `bitnet-audit`: run, bench, times, mutants, gate, diff, report, schema.

Bad input ends with one sentence and exit code 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness import bench as benchmark
from harness import render
from harness import run as running
from harness.criteria import load_rulebook
from harness.diff import compare
from harness.errors import AuditError, one_line
from harness.expectations import Expectations, read_expectations
from harness.files import write_text
from harness.gate import check_file, load_thresholds
from harness.history import read_history
from harness.render import changes, workflow
from harness.render.console import print_scorecard
from harness.render.targets import print_targets
from harness.schema import schema_text
from harness.scorecard import SCORECARD_FILE, load

Format = Literal["md", "html", "junit", "sarif", "summary", "csv", "svg"]

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
    if directory == running.DEFAULT_OUT and not only:
        running.keep_in_history(scorecard)
    render.write_reports(scorecard, directory, read_history(running.HISTORY, scorecard))
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
def times(
    file: Annotated[Path, typer.Argument(help="A file of pytest-benchmark.")] = benchmark.OUT / benchmark.TIMES,
    baseline: Annotated[str, typer.Option(help="The arm that the others are compared with.")] = "subject",
) -> None:
    """Compare the raw times in a pytest-benchmark file: each arm against a baseline, with a 95 % interval.

    \b
    Examples:
      bitnet-audit times reports/bench/benchmark.json --baseline "llama.cpp F16"
      bitnet-audit times saved.json --baseline test_old
    """
    from harness.timings import read_benchmark, speedup_lines, speedups  # needs scipy, which the gate does without

    for line in speedup_lines(speedups(read_benchmark(file), baseline)):
        typer.echo(line)


@app.command()
def mutants(
    only: Annotated[str | None, typer.Option(help="Mutants by id, * allowed.")] = None,
    area: Annotated[str | None, typer.Option(help="Mutants of one area, such as packing.")] = None,
    sample: Annotated[int | None, typer.Option(help="How many of them, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes side by side.")] = 2,
    seeds: Annotated[int, typer.Option(help="Seeds that the clean subjects are run with.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Where matrix.json, .md and .html go.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of a table.")] = False,
) -> None:
    """Show seeded defects to the suites, and print which checks turn RED on which; exit 0 if all of it is sound.

    Sound: every mutant is killed by the criterion that it names, every check kills one, and no check turns RED on a
    clean subject. With --only, --area or --sample it is a sample, which cannot say that a check is idle.

    \b
    Examples:
      bitnet-audit mutants --out reports/mutants
      bitnet-audit mutants --area packing
      bitnet-audit mutants --sample 20 --seed 7 --json
    """
    from harness.mutants import command  # torch, which no other command needs to be quick

    chosen = command.Choice(only, area, sample, seed, jobs, seeds)
    raise typer.Exit(0 if command.run(chosen, out, as_json) else 1)


@app.command()
def gate(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard.json.")] = running.DEFAULT_OUT / SCORECARD_FILE,
    pyproject: Annotated[Path, typer.Option(help="Where the thresholds are.")] = Path("pyproject.toml"),
    against: Annotated[Path | None, typer.Option(help="A stored scorecard that nothing may fall behind.")] = None,
    expected_failures: Annotated[Path | None, typer.Option(help="Rows and checks that are known to fail.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    annotate: Annotated[
        bool, typer.Option(envvar="GITHUB_ACTIONS", help="Print what GitHub shows as annotations.")
    ] = False,
) -> None:
    """Hold a scorecard to the thresholds in [tool.bitnet-audit.gate]; exit 1 with one line for each breach.

    A breach that the file of expected failures names is told and does not count; an entry of that file that names
    nothing, or something that passes, gives a warning.

    \b
    Examples:
      bitnet-audit gate reports/latest/scorecard.json
      bitnet-audit gate --against reports/main.json --expected-failures reports/expected-failures.txt
    """
    thresholds = load_thresholds(pyproject)
    stored, listed = against or thresholds.against, expected_failures or thresholds.expected_failures
    judgement = check_file(
        scorecard,
        thresholds,
        expectations=read_expectations(listed) if listed else Expectations(),
        against=load(stored) if stored else None,
    )
    if as_json:
        typer.echo(changes.judgement_json(judgement))
    else:
        for line in (workflow if annotate else changes).judgement_lines(judgement):
            typer.echo(line)
        for warning in () if annotate else judgement.warnings:
            typer.echo(f"warning: {warning}", err=True)
        if judgement.held:
            beside = ", but for what is expected to fail" if judgement.expected else ""
            typer.echo(f"{scorecard}: every threshold is held{beside}")
    raise typer.Exit(0 if judgement.held else 1)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The older scorecard.json.")],
    after: Annotated[Path, typer.Argument(help="The newer scorecard.json.")],
    slack: Annotated[float, typer.Option(min=0.0, help="A relative change of a figure that is no regression.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what changed from one scorecard to another: scores, statuses and figures.

    Exit 1 if a row got worse or is no longer measured, if a figure got worse beyond both 95 % intervals, or if a status
    was edited; else 0. Statuses are computed anew from the evidence in each scorecard.

    \b
    Examples:
      bitnet-audit diff reports/history/OLD.json reports/latest/scorecard.json
      bitnet-audit diff old.json new.json --slack 0.02 --json
    """
    found = compare(load(before), load(after), slack=slack)
    if as_json:
        typer.echo(changes.diff_json(found))
    else:
        for line in changes.diff_lines(found):
            typer.echo(line)
    raise typer.Exit(1 if found.regressions or found.figure_regressions or found.edited else 0)


@app.command()
def report(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard.json.")] = running.DEFAULT_OUT / SCORECARD_FILE,
    format: Annotated[Format, typer.Option(help="Markdown, HTML, JUnit, SARIF, step summary, table, picture.")] = "md",
    out: Annotated[Path | None, typer.Option(help="A file; without it, standard output.")] = None,
    history: Annotated[
        Path, typer.Option(help="Earlier scorecards of the same subject, for the trends of the HTML report.")
    ] = running.HISTORY,
) -> None:
    """Render a scorecard in one format.

    \b
    Examples:
      bitnet-audit report --format html --out scorecard.html
      bitnet-audit report --format sarif --out scorecard.sarif
      bitnet-audit report reports/latest/scorecard.json --format svg --out docs/scorecard.svg
    """
    card = load(scorecard)
    text = render.render_html(card, read_history(history, card)) if format == "html" else render.FORMATS[format](card)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a scorecard.

    \b
    Example:
      bitnet-audit schema > scorecard.schema.json
    """
    typer.echo(schema_text(), nl=False)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without some symbol shows "?" in its place
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app()
    except AuditError as error:
        if not isinstance(error, running.RefusedError):
            typer.echo(one_line(error), err=True)
        raise SystemExit(2) from None
