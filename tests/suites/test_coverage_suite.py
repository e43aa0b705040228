"""Coverage that is missing or stale is not measured, and never passes."""

import os
from pathlib import Path

import pytest

from harness.mutants.mutant import Stage
from harness.mutants.reference.bare import BareSubject
from harness.mutants.reference.repositories import measured_repository
from tests.suites.audits import Audit, audit_class


@pytest.fixture
def root(tmp_path: Path) -> Path:
    measured_repository(tmp_path / "repository", {})
    return tmp_path / "repository"


def run(root: Path) -> Audit:
    return audit_class(root.parent / "run", Stage("test_coverage.py"), BareSubject, root / "bitnet")


def test_full_coverage_passes_every_check(root: Path) -> None:
    done = run(root)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    assert {figure.value for record in done.records for figure in record.figures.values()} == {100}


def test_data_that_is_missing_is_not_measured(root: Path) -> None:
    (root / ".coverage").unlink()
    assert {record.outcome for record in run(root).records} == {"skipped"}


def test_data_older_than_the_source_is_not_measured(root: Path) -> None:
    later = (root / ".coverage").stat().st_mtime + 1
    os.utime(root / "harness/other.py", (later, later))
    done = run(root)
    assert {record.outcome for record in done.records} == {"skipped"}
    assert "other.py was changed" in done.records[0].message


def test_data_without_branches_or_of_another_kind_is_red(root: Path) -> None:
    (root / ".coverage").write_bytes(b"no database")
    done = run(root)
    assert {record.outcome for record in done.records} == {"error"}


def test_a_subject_installed_without_its_repository_is_not_measured(root: Path) -> None:
    (root / "pyproject.toml").unlink()
    assert {record.outcome for record in run(root).records} == {"skipped"}
