"""Each fallback that can be provoked has a mutant that keeps silent about it, and that one alone is blamed."""

from pathlib import Path

from harness.mutants import catalogue
from harness.mutants.mutant import Stage
from harness.mutants.reference.folders import FolderSubject
from suites.test_fallbacks import PROVOKED
from tests.suites.audits import audit_class


def test_each_has_a_mutant() -> None:
    titles = {mutant.title for mutant in catalogue.select(area="fallbacks")}
    assert {f"silent about {name}" for name in PROVOKED} <= titles


def test_only_the_fallback_that_is_kept_silent_is_blamed(tmp_path: Path) -> None:
    stage = Stage("test_fallbacks.py", props=("one-step",))
    done = audit_class(tmp_path / "run", stage, FolderSubject, "silent about recovery")
    assert done.with_outcome("failed", "error") == {"test_a_fallback_that_was_taken_is_named[recovery]"}
