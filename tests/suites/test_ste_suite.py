"""The suite of straight-through layers accepts either estimator, as declared."""

from pathlib import Path

from harness.mutants.defects.ste import ClippedAsDeclared
from harness.mutants.mutant import Stage
from tests.suites.audits import audit_class


def test_a_clipped_estimator_that_is_declared_passes_every_check(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", Stage("test_ste.py"), ClippedAsDeclared)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
