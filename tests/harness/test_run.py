from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import run as running
from harness.criteria import Status, load_rulebook
from harness.errors import AuditError
from harness.run import RefusedError, Request, audit, keep_in_history, suites_directory
from harness.scorecard import build, load, without_times
from tests.harness import made_up

SUBJECT = """
from harness.subject import Declaration

class Subject:
    declaration = Declaration(name="made-up", version="1.0")
"""
CHECKS = """
import os
import pytest

@pytest.mark.criterion("2.ste")
def test_first(evidence, models):
    evidence.note(", ".join(models))
    evidence.note(os.environ["PYTHONHASHSEED"])

@pytest.mark.criterion("2.dashboard")
def test_second(tmp_path):
    assert tmp_path.is_file()
"""
LEAVES = """
import tempfile
import pytest

@pytest.mark.criterion("2.ste")
def test_leaves(evidence, tmp_path):
    for folder in (str(tmp_path), tempfile.mkdtemp()):
        evidence.note(folder)
"""
CRASH = """
@pytest.mark.criterion("A.packing-exact")
def test_crashes():
    os._exit(3)

@pytest.mark.criterion("A.bad-input")
def test_after(): pass
"""


def suites(folder: Path, checks: str) -> Path:
    (folder / "suites").mkdir()
    (folder / "suites" / "test_made_up.py").write_text(checks)
    (folder / "subject.py").write_text(SUBJECT)
    return folder / "suites"


def request(folder: Path, **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "subject": f"{folder / 'subject.py'}:Subject",
        "profile": "quick",
        "models": ("one", "two"),
        "seed": 3,
        "only": (),
        "out": folder / "out",
    }
    return Request(**(fields | changes))


def test_a_crash_of_the_subject_leaves_the_records_of_what_ran_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing around the user may change an audit.
    monkeypatch.setenv("PYTEST_ADDOPTS", "--of-no-such-option")
    monkeypatch.setenv("PYTEST_PLUGINS", "of_no_such_plugin")
    (tmp_path / "conftest.py").write_text("raise RuntimeError('not part of the audit')")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = ['--of-no-such-option']")
    card = audit(request(tmp_path), suites(tmp_path, CHECKS + CRASH))
    assert [(check.nodeid, check.outcome) for check in card.checks] == [
        ("suites/test_made_up.py::test_first", "passed"),
        ("suites/test_made_up.py::test_second", "failed"),
    ]
    assert card.checks[0].notes == ("one, two", "0")
    assert not card.complete
    assert "the run was killed before it ended" in card.problems
    assert "2 of 4 checks left no record, the first suites/test_made_up.py::test_crashes" in card.problems
    assert card.seed == 3
    assert card.models == ("one", "two")


def test_only_what_was_asked_for_runs_and_failures_leave_the_run_complete(tmp_path: Path) -> None:
    card = audit(request(tmp_path, only=("2.*",)), suites(tmp_path, CHECKS + CRASH))
    assert card.complete
    assert card.only == ("2.*",)
    row = card.row("2.dashboard")
    assert row is not None
    assert row.status is Status.RED
    # pytest's own plugin has written the same scorecard.
    assert without_times(load(tmp_path / "out" / "scorecard.json")) == without_times(card)


def test_what_checks_leave_in_temporary_folders_is_gone_in_the_end(tmp_path: Path) -> None:
    card = audit(request(tmp_path), suites(tmp_path, LEAVES))
    folders = [Path(note) for note in card.checks[0].notes]
    assert len(folders) == 2
    assert all("bitnet-audit-run-" in str(folder) and not folder.exists() for folder in folders)


def test_an_input_that_is_refused_has_its_reason_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "out" / "evidence.jsonl"
    stale.parent.mkdir()
    stale.write_text("of an older run")
    with pytest.raises(RefusedError):
        audit(request(tmp_path, subject="nobody"), suites(tmp_path, CHECKS))
    assert "unknown subject 'nobody'" in capfd.readouterr().err
    assert not stale.exists()


class FakeProcess:
    """A pytest that was interrupted once and then ended without evidence."""

    def __init__(self, words: list[str], env: dict[str, str]) -> None:
        self.interrupts = 1

    def __enter__(self) -> FakeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        return 3


def test_an_interruption_waits_for_pytest_and_no_evidence_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", FakeProcess)
    with pytest.raises(AuditError, match="stopped before its first check, with pytest's exit status 3"):
        audit(request(tmp_path), tmp_path)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match=r"cannot write into .*file/out: .*; choose another --out"):
        audit(request(tmp_path, out=tmp_path / "file" / "out"), tmp_path)


def test_the_history_keeps_every_run_and_overwrites_none(tmp_path: Path) -> None:
    card = build(made_up.run(made_up.check("a", "2.ste")), load_rulebook())
    first, second = keep_in_history(card, tmp_path), keep_in_history(card, tmp_path)
    assert first.name == "20260102T030405-0123456789ab.json"
    assert second.name == "20260102T030405-0123456789ab-2.json"
    assert load(second) == load(first)
    without = card.model_copy(update={"commit": None})
    assert keep_in_history(without, tmp_path).name == "20260102T030405-no-commit.json"


def test_the_suites_are_found_where_they_are_installed_or_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (suites_directory() / "test_packing.py").is_file()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AuditError, match=r"`suites` is not installed; install bitnet-audit with the extra \[audit\]"):
        suites_directory()


def test_the_default_places_are_the_documented_ones() -> None:
    assert (str(running.DEFAULT_OUT), str(running.HISTORY)) == ("reports/latest", "reports/history")
