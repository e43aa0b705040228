"""A report on changes to the source that is missing or out of date is not measured, and never passes."""

from pathlib import Path

import pytest

from harness.mutants.mutant import Stage
from harness.mutants.reference.bare import BareSubject
from harness.mutants.reference.repositories import changed_repository
from harness.source_mutants.report import JSON_FILE
from harness.source_mutants.scope import FOLDER
from tests.suites.audits import Audit, audit_class


@pytest.fixture
def root(tmp_path: Path) -> Path:
    changed_repository(tmp_path / "repository", "")
    return tmp_path / "repository"


def run(root: Path) -> Audit:
    return audit_class(
        root.parent / "run", Stage("test_source_mutants.py", profile="full"), BareSubject, root / "bitnet"
    )


def test_changes_that_are_noticed_or_explained_pass(root: Path) -> None:
    (record,) = run(root).records
    assert record.outcome == "passed"
    assert record.figures["unexplained_survivors"].value == 0
    assert 0 < record.figures["mutation_score"].value < 100


def test_without_a_report_nothing_is_measured(root: Path) -> None:
    (root / FOLDER / JSON_FILE).unlink()
    (record,) = run(root).records
    assert record.outcome == "skipped"
    assert "No changes to bitnet/quantizer.py have been tried" in record.message


def test_a_report_on_an_older_source_is_not_measured(root: Path) -> None:
    (root / "harness/gate.py").write_text("", encoding="utf-8")
    (record,) = run(root).records
    assert record.outcome == "skipped"
    assert "harness/gate.py has been altered" in record.message


def test_a_repository_of_other_files_is_not_measured(root: Path) -> None:
    (root / "bitnet/packing.py").unlink()
    (record,) = run(root).records
    assert record.outcome == "skipped"
    assert "bitnet/packing.py is not in this repository" in record.message


def test_a_damaged_report_is_red(root: Path) -> None:
    (root / FOLDER / JSON_FILE).write_text("{", encoding="utf-8")
    assert {record.outcome for record in run(root).records} == {"error"}
