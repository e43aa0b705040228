"""The suite of checkpoints resumes in a fresh process, which the mutants are spared."""

from pathlib import Path

from harness.mutants.mutant import Stage
from harness.mutants.reference.resuming import ResumingSubject
from tests.suites.audits import audit_class


def test_a_right_one_passes_in_a_fresh_process(tmp_path: Path) -> None:
    stage = Stage("test_checkpoints.py", only="uninterrupted")
    done = audit_class(tmp_path / "run", stage, ResumingSubject, "")
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
