"""What the suite of faults counts, and that it is not measured where no fault can be made."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.mutants.mutant import Stage
from harness.mutants.reference.enduring import EnduringSubject
from tests.suites.audits import audit_class

STAGE = Stage("test_faults.py", profile="full", props=("some-faults",))


def test_faults_are_counted_and_the_lost_ones_named(tmp_path: Path) -> None:
    stage = replace(STAGE, only="between_stages")
    for defect, lost in (("", 0), ("a lock outlives its process", 2)):
        done = audit_class(tmp_path / (defect or "clean"), stage, EnduringSubject, defect)
        (record,) = done.records
        figures = {name: figure.value for name, figure in record.figures.items()}
        assert figures == {"faults_tried": 3, "faults_lost": lost, "faults_survived": 3 - lost}, record.message
        assert len(record.notes) == lost
        assert all("started again it ends with 2" in note for note in record.notes), record.notes


def test_another_output_that_passes_is_no_excuse(tmp_path: Path) -> None:
    """State of another run gives an output that is valid, and not what was asked for."""
    stage = replace(STAGE, only="another_run")
    done = audit_class(tmp_path / "run", stage, EnduringSubject, "state of other settings taken")
    assert "started again it writes other bytes" in done.messages()


def test_without_a_compiler_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    done = audit_class(tmp_path / "run", replace(STAGE, only="between_stages"), EnduringSubject)
    assert {record.outcome for record in done.records} == {"skipped"}, done.messages()
