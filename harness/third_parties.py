"""Who passes what: the scorecards of other people's libraries, cut down to what a reader needs, and a table.

`nox -s subjects` audits every library and then runs `python -m harness.third_parties`, which condenses each full
scorecard under reports/subjects/ into rows.json and rows.md (these are kept in the repository) and writes the table
between the two markers of the README. An overall score would say nothing of a library: most rows ask for a pipeline.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from harness.criteria import Status
from harness.errors import AuditError
from harness.evidence import Outcome, Record
from harness.files import write_text
from harness.scorecard import SCORECARD_FILE, Scorecard, load
from harness.subjects import BUILTIN_SUBJECTS

FOLDER: Final = Path("reports/subjects")
ROWS_FILE: Final = "rows.json"
BEGIN, END = "<!-- who passes what: begin -->", "<!-- who passes what: end -->"
OWN: Final = "bitnet"
COLUMNS: Final = {
    "weights": "1.1.ternary-quantization",
    "scales": "1.1.per-channel-scaling",
    "activations": "A.activation-quantization",
    "packing": "A.packing-exact",
    "layers and gradients": "1.1.ste-gradients",
    "as declared": "A.as-declared",
    "as published": "A.as-published",
}
_WORDS: Final = {Status.GREEN: "passes", Status.YELLOW: "in part", Status.RED: "**fails**", Status.GREY: "-"}


class RowSummary(Record):
    """One criterion of a library: its status, the reason in words and its checks by outcome."""

    id: str
    title: str
    status: Status
    reason: str
    outcomes: dict[Outcome, int]


class FailedCheck(Record):
    """A check that a library fails, with the first line of what went wrong and the command that repeats it."""

    nodeid: str
    message: str
    command: str


class Summary(Record):
    """What is kept of the scorecard of a library: rows that something was measured for, and failed checks."""

    subject: str
    version: str
    profile: str
    seed: int
    libraries: dict[str, str]
    complete: bool
    outcomes: dict[Outcome, int]
    rows: tuple[RowSummary, ...]
    failed: tuple[FailedCheck, ...]

    def status(self, criterion: str) -> Status:
        """The status of a criterion; GREY where nothing was measured for it."""
        return next((row.status for row in self.rows if row.id == criterion), Status.GREY)


def third_parties() -> tuple[str, ...]:
    """The names of the built-in subjects that are other people's libraries."""
    return tuple(sorted(BUILTIN_SUBJECTS.keys() - {OWN}))


def condense(scorecard: Scorecard) -> Summary:
    """The rows with checks of their own, at least one of them applicable, and every failed check."""
    rows = []
    for row in scorecard.criteria:
        outcomes = Counter(check.outcome for check in scorecard.checks_of(row))
        if outcomes.keys() - {"not_applicable", "skipped"}:
            rows.append(
                RowSummary(id=row.id, title=row.title, status=row.status, reason=row.reason, outcomes=dict(outcomes))
            )
    failed = [
        FailedCheck(nodeid=check.nodeid, message=check.message.partition("\n")[0], command=check.command)
        for check in scorecard.checks
        if check.outcome in ("failed", "error")
    ]
    return Summary(
        subject=scorecard.subject.name,
        version=scorecard.subject.version,
        profile=scorecard.profile,
        seed=scorecard.seed,
        libraries=scorecard.environment.libraries,
        complete=scorecard.complete,
        outcomes=dict(Counter(check.outcome for check in scorecard.checks)),
        rows=tuple(rows),
        failed=tuple(failed),
    )


def read_summaries(folder: Path = FOLDER) -> tuple[Summary, ...]:
    """Every rows.json under a folder, by the subject's name; raises AuditError on one that is not a summary."""
    summaries = []
    for path in sorted(folder.glob(f"*/{ROWS_FILE}")):
        try:
            summaries.append(Summary.model_validate_json(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise AuditError(f"{path} is not a summary of a scorecard; run `nox -s subjects` again") from error
    return tuple(summaries)


def table(summaries: Sequence[Summary]) -> str:
    """Who passes what, as a Markdown table: one line for each library."""
    lines = [
        f"| library | {' | '.join(COLUMNS)} | checks passed |",
        f"|---|{'---|' * (len(COLUMNS) + 1)}",
    ]
    for summary in summaries:
        cells = [_WORDS[summary.status(criterion)] for criterion in COLUMNS.values()]
        lines.append(f"| {summary.subject} {summary.version} | {' | '.join(cells)} | {passed(summary)} |")
    return "\n".join(lines)


def passed(summary: Summary) -> str:
    """Checks passed, of those that apply."""
    applicable = sum(summary.outcomes.get(outcome, 0) for outcome in ("passed", "failed", "error"))
    return f"{summary.outcomes.get('passed', 0)} of {applicable}"


def with_table(document: str, text: str) -> str:
    """A document with what is between its two markers replaced; raises AuditError where they are missing."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AuditError(f"the document has no place for the table; give it the lines {BEGIN} and {END}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def page(summary: Summary) -> str:
    """One library's rows and failed checks as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in summary.libraries.items())
    lines = [
        f"# {summary.subject} {summary.version}",
        "",
        f"{passed(summary)} applicable checks passed (profile {summary.profile}, seed {summary.seed}; {versions}).",
        "",
        "| criterion | status | reason |",
        "|---|---|---|",
    ]
    lines += [f"| {row.title} (`{row.id}`) | {row.status} | {_cell(row.reason)} |" for row in summary.rows]
    if summary.failed:
        lines += ["", "Failed checks; reports/subjects/findings.toml says what is behind them:", ""]
        lines += [f"- `{check.nodeid}`: {_cell(check.message)}" for check in summary.failed]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.partition("\n")[0].replace("|", "\\|").replace("<", "&lt;")


def main(arguments: Sequence[str] | None = None) -> None:
    """Condense every full scorecard under the folder and write the table into the README."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the scorecards are (default: %(default)s)")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    for path in sorted(options.folder.glob(f"*/{SCORECARD_FILE}")):
        summary = condense(load(path))
        write_text(path.with_name(ROWS_FILE), summary.model_dump_json(indent=1) + "\n")
        write_text(path.with_name("rows.md"), page(summary))
    text = table(read_summaries(options.folder))
    write_text(options.readme, with_table(options.readme.read_text(encoding="utf-8"), text))
    print(text)


if __name__ == "__main__":
    main()
