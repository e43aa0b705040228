"""What `bitnet-audit mutants` does: choose, run with a bar that tells how far it is, print and write the matrix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.files import write_text
from harness.mutants import campaign, catalogue
from harness.mutants.matrix import Matrix, as_json, summary
from harness.mutants.mutant import Mutant
from harness.mutants.render import print_matrix, render_html, render_markdown

MATRIX = "matrix"
_NAME_WIDTH = 44


@dataclass(frozen=True)
class Choice:
    """Which mutants, and how they are run; `sample` draws so many of them by `seed`."""

    only: str | None
    area: str | None
    sample: int | None
    seed: int
    jobs: int
    seeds: int

    def mutants(self) -> tuple[Mutant, ...]:
        """The mutants chosen; raises AuditError where there are none."""
        found = catalogue.select(self.only, self.area)
        return found if self.sample is None else catalogue.sample(found, self.sample, self.seed)


def run(choice: Choice, out: Path | None, print_json: bool) -> bool:
    """Run, print to standard output and write into `out`; whether everything was sound."""
    plan = campaign.Plan(choice.mutants(), choice.jobs, choice.seeds)
    with _bar() as progress:
        matrix = campaign.run(plan, progress)
    if out is not None:
        write(matrix, out)
    if print_json:
        typer.echo(json.dumps(as_json(matrix), indent=1))
    else:
        print_matrix(matrix)
        typer.echo(summary(matrix))
        if out is not None:
            typer.echo(f"Reports: {out / MATRIX}.html (also .md and .json)")
    return matrix.sound


def write(matrix: Matrix, out: Path) -> None:
    """The matrix as data, as Markdown and as a page."""
    write_text(out / f"{MATRIX}.json", json.dumps(as_json(matrix), indent=1) + "\n")
    write_text(out / f"{MATRIX}.md", render_markdown(matrix))
    write_text(out / f"{MATRIX}.html", render_html(matrix))


@contextmanager
def _bar() -> Iterator[campaign.Progress]:
    """A bar on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("clean subjects".ljust(_NAME_WIDTH), total=None)
        yield lambda done, total, name: bar.update(
            task, completed=done, total=total, description=name[:_NAME_WIDTH].ljust(_NAME_WIDTH)
        )
