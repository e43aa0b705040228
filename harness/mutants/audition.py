"""One suite on one small subject, in this process: what each check said, and what the subject was asked."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from harness.criteria import Status, load_rulebook
from harness.errors import AuditError
from harness.evidence import EVIDENCE_FILE, CheckRecord, Record, Run, read_run
from harness.mutants.mutant import Stage
from harness.mutants.trace import recording, save_calls
from harness.run import suites_directory
from harness.status import judge

Cell = Literal["assertion", "figure", "crash"]
"""How a check turned RED: an assertion failed, a figure missed its target, or it could not be carried out."""

# Plugins of an outer run that have no business in the inner one; the last one collects all garbage five times a run.
UNWANTED = ("cacheprovider", "xdist", "cov", "logging", "unraisableexception", "benchmark")
_VERDICTS = ("AssertionError", "Failed", "assert ")


class Verdict(Record):
    """What one check said of one subject; `cell` is None where it did not turn RED."""

    check: str
    nodeid: str
    criteria: tuple[str, ...]
    outcome: str
    cell: Cell | None
    message: str


@dataclass(frozen=True)
class Audition:
    """The verdicts of all checks that ran, and the seconds that they took."""

    verdicts: tuple[Verdict, ...]
    seconds: float

    def red(self, *kinds: Cell) -> dict[str, Cell]:
        """The checks that turned RED in one of these ways (none given: in any), by function; assertions come first."""
        found: dict[str, Cell] = {}
        for verdict in sorted(self.verdicts, key=lambda each: each.cell or "", reverse=False):
            if verdict.cell is not None and (not kinds or verdict.cell in kinds):
                found.setdefault(verdict.check, verdict.cell)
        return found


def audition(
    stage: Stage,
    name: str,
    folder: Path,
    shared: Path,
    seed: int = 0,
    props: Sequence[str] = (),
    calls: Path | None = None,
) -> Audition:
    """Show the mutant of that id, or the clean subject of that area, to a suite.

    `folder` is for this run alone and is emptied first; small models are made in `shared`, once; `props` spoil the
    instruments; `calls` is where to write what the subject was asked and answered.

    Raises:
        AuditError: the suite could not be run to its end.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "files").mkdir(parents=True)
    source = (
        "from pathlib import Path\n\nfrom harness.mutants.catalogue import make\n\n\n"
        f"def factory():\n    return make({name!r}, Path({str(folder / 'files')!r}))\n"
    )
    with recording() if calls else contextlib.nullcontext() as recorder:
        run = run_suite(stage, source, folder, shared, seed, props)
    if calls and recorder:
        save_calls(recorder.calls, calls)
    duration = run.end.duration if run.end else 0.0
    return Audition(tuple(_verdict(record, stage.judges_timings) for record in run.records), duration)


def run_suite(stage: Stage, source: str, folder: Path, shared: Path, seed: int = 0, props: Sequence[str] = ()) -> Run:
    """Run a suite on the subject that `factory()` of a Python source makes; raises AuditError if it does not finish."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "audited_subject.py"
    file.write_text(source, encoding="utf-8")
    suites = suites_directory()
    words = ["-q", "-p", "harness.plugin", "-p", "suites.stage"]
    words += [word for plugin in UNWANTED for word in ("-p", f"no:{plugin}")]
    words += ["-c", os.devnull, "--rootdir", str(suites.parent), "--confcutdir", str(suites)]
    words += ["--basetemp", str(folder / "tmp"), "--disable-warnings", "--tb=no"]
    words += ["--subject", f"{file}:factory", "--scorecard", str(folder / "evidence")]
    words += ["--profile", stage.profile, "--seed", str(seed), "--prop-folder", str(shared)]
    words += [word for model in stage.models for word in ("--model", model)]
    words += [word for prop in (*stage.props, *props) for word in ("--prop", prop)]
    words += ["-k", stage.only] if stage.only else []
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        pytest.main([*words, str(suites / stage.suite)])
    evidence = folder / "evidence" / EVIDENCE_FILE
    if not evidence.is_file():
        raise AuditError(f"{stage.suite} did not start: {_last_line(output.getvalue())}; run it by itself to see why")
    run = read_run(evidence)
    if run.problems:
        raise AuditError(f"{stage.suite} did not run to its end: {run.problems[0]}; {_last_line(output.getvalue())}")
    return run


def _verdict(record: CheckRecord, judges_timings: bool) -> Verdict:
    name = record.nodeid.partition("::")[2]
    return Verdict(
        check=f"{Path(record.nodeid.partition('::')[0]).name}::{name.partition('[')[0]}",
        nodeid=record.nodeid,
        criteria=record.criteria,
        outcome=record.outcome,
        cell=_cell(record, judges_timings),
        message=record.message.partition("\n")[0],
    )


def _cell(record: CheckRecord, judges_timings: bool) -> Cell | None:
    """A fixture that finds the subject wrong fails by assertion as well, though the check itself never begins."""
    if record.outcome == "failed" or (record.outcome == "error" and record.message.startswith(_VERDICTS)):
        return "assertion"
    if record.outcome == "error":
        return "crash"
    return "figure" if record.outcome == "passed" and _misses_a_target(record, judges_timings) else None


def _misses_a_target(record: CheckRecord, judges_timings: bool) -> bool:
    """Whether a figure that the check recorded makes one of its rows RED."""
    rulebook = load_rulebook()
    criteria = filter(None, map(rulebook.get, record.criteria))
    return any(
        figure.status is Status.RED and (judges_timings or not figure.timing)
        for criterion in criteria
        for figure in judge(criterion, [record], []).figures
    )


def _last_line(text: str) -> str:
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
