"""What became of the changes to the source: the score, the survivors and why they survive, as JSON and Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from harness.errors import AuditError
from harness.evidence import Record
from harness.files import write_text
from harness.render.markdown import text
from harness.source_mutants.explanations import Explanations
from harness.source_mutants.scope import LEFT_OUT, TESTS, digest
from harness.source_mutants.trial import Fate

JSON_FILE = "source-mutants.json"
MARKDOWN_FILE = "source-mutants.md"


class Trial(Record):
    """One change, where it is, what became of it, and the test that noticed it ("" where the file broke at once)."""

    line: int
    function: str
    change: str
    fate: Fate
    killer: str = ""


class FileReport(Record):
    """All changes to one file; `digest` is of its source, `left_out` counts what was not tried, by the reason."""

    file: str
    tests: tuple[str, ...]
    digest: str
    trials: tuple[Trial, ...]
    left_out: dict[str, int]
    seconds: float

    @property
    def noticed(self) -> int:
        """How many changes the tests noticed."""
        return sum(trial.fate != "survived" for trial in self.trials)

    @property
    def survivors(self) -> tuple[Trial, ...]:
        """The changes that no test noticed."""
        return tuple(trial for trial in self.trials if trial.fate == "survived")


class Report(Record):
    """All files."""

    files: tuple[FileReport, ...] = ()

    def of(self, file: str) -> FileReport | None:
        """The report on one file, if there is one."""
        return next((each for each in self.files if each.file == file), None)

    @property
    def score(self) -> float:
        """The share of all changes that was noticed; NaN where none was tried."""
        trials = sum(len(each.trials) for each in self.files)
        return sum(each.noticed for each in self.files) / trials if trials else math.nan

    def with_file(self, new: FileReport) -> Report:
        """The report with that on one file replaced or added."""
        kept = [each for each in self.files if each.file != new.file]
        return Report(files=tuple(sorted([*kept, new], key=lambda each: each.file)))


def read(folder: Path) -> Report:
    """The report in a folder, empty where there is none yet; raises AuditError on a file that is no report."""
    path = folder / JSON_FILE
    if not path.is_file():
        return Report()
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise AuditError(f"{path} is no report on changes to the source; remove it and run again") from error


def stale_reason(report: Report, root: Path) -> str | None:
    """Why a report says nothing of the files in a repository as they are, or None where it does.

    The reason is a sentence: a file was not tried, has been changed since, or is not there.
    """
    for file in TESTS:
        tried, path = report.of(file), root / file
        if not path.is_file():
            return f"{file} is not in this repository, and others are not changed."
        if tried is None:
            return f"No changes to {file} have been tried; run nox -s source_mutants first."
        if tried.digest != digest(path.read_text(encoding="utf-8")):
            return f"{file} has been altered since changes to it were tried; run nox -s source_mutants again."
    return None


def write(report: Report, explanations: Explanations, folder: Path) -> None:
    """The report as data and as Markdown."""
    write_text(folder / JSON_FILE, report.model_dump_json(indent=1) + "\n")
    write_text(folder / MARKDOWN_FILE, render(report, explanations))


def unexplained(report: Report, explanations: Explanations) -> tuple[tuple[str, Trial], ...]:
    """The survivors without an explanation, with their files."""
    return tuple(
        (each.file, trial)
        for each in report.files
        for trial in each.survivors
        if explanations.reason(each.file, trial.function, trial.change) is None
    )


def warnings(report: Report, explanations: Explanations) -> Iterator[str]:
    """A sentence for each explanation of what did not survive or does not exist."""
    looked_at = {each.file for each in report.files}
    survived = {(each.file, trial.function, trial.change) for each in report.files for trial in each.survivors}
    for entry in explanations.entries:
        for change in entry.changes:
            if entry.file in looked_at and (entry.file, entry.function, change) not in survived:
                where = f"{entry.file}, {entry.function or 'module'}"
                yield f"{where}: an explanation matches no survivor; correct or remove it: {_one_line(change)}"


def summary(report: Report, explanations: Explanations) -> str:
    """The figures in one sentence."""
    trials = sum(len(each.trials) for each in report.files)
    noticed = sum(each.noticed for each in report.files)
    open_ones = len(unexplained(report, explanations))
    left_out = sum(sum(each.left_out.values()) for each in report.files)
    return (
        f"{noticed} of {trials} changes noticed ({_percent(noticed, trials)}), "
        f"{trials - noticed - open_ones} survivors explained, {open_ones} not explained; "
        f"{left_out} changes left out ({_percent(left_out, trials + left_out)} of all)"
    )


def render(report: Report, explanations: Explanations) -> str:
    """The report for a repository: the files in a table, what was left out, the survivors and what explains them."""
    lines = ["# Mutation of the source", "", f"{summary(report, explanations)}.", ""]
    lines += ["| file | changes | noticed | of these by time | survivors | explained | score |", "|---|" + "---:|" * 6]
    lines += [_row(each, explanations) for each in report.files]
    lines += ["", "Left out, because no behaviour depends on it:", ""]
    for reason, words in LEFT_OUT.items():
        lines.append(f"- {words}: {sum(each.left_out.get(reason, 0) for each in report.files)}")
    if told := [text(each) for each in warnings(report, explanations)]:
        lines += ["", "Warnings:", "", *(f"- {each}" for each in told)]
    for each in report.files:
        lines += _survivors(each, explanations)
    return "\n".join(lines) + "\n"


def _row(each: FileReport, explanations: Explanations) -> str:
    changes, survivors = len(each.trials), len(each.survivors)
    late = sum(trial.fate == "timeout" for trial in each.trials)
    explained = survivors - len(unexplained(Report(files=(each,)), explanations))
    figures = (changes, each.noticed, late, survivors, explained, _percent(each.noticed, changes))
    return f"| {text(each.file)} | {' | '.join(map(str, figures))} |"


def _survivors(each: FileReport, explanations: Explanations) -> list[str]:
    lines = ["", f"## Survivors of {text(each.file)}", "", "| line | function | change | why |", "|---:|---|---|---|"]
    for trial in each.survivors:
        reason = explanations.reason(each.file, trial.function, trial.change) or "not explained"
        cells = (trial.function or "module", _one_line(trial.change), reason)
        lines.append(f"| {trial.line} | {' | '.join(map(text, cells))} |")
    return lines if each.survivors else []


def _one_line(change: str) -> str:
    return " ".join(change.split("\n"))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "nothing"
