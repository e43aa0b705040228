"""What the checks of a dashboard leave unmeasured, and which numbers they find in a text."""

from pathlib import Path

from harness.mutants.mutant import Stage
from harness.mutants.reference.dashboard import DashboardSubject
from suites.test_dashboard import is_shown
from tests.suites.audits import audit_class


def test_what_needs_a_library_that_is_not_installed_is_not_measured(tmp_path: Path) -> None:
    stage = Stage("test_dashboard.py", only="starts")
    done = audit_class(tmp_path / "run", stage, DashboardSubject, "a requirement is missing")
    assert {record.outcome for record in done.records} == {"skipped"}
    assert "a_library" in done.messages()


def test_numbers_are_found_as_people_write_them() -> None:
    assert is_shown(0.31734, "zeros 31.7 %")
    assert is_shown(12345.0, "12,345 tokens")
    assert is_shown(1.5e7, "about 1.5e7")
    assert not is_shown(0.31734, "0.316 31.5 %")
    assert is_shown(0.16452, "overall 16.5 %")
    assert not is_shown(0.16452, "overall 16 %, 17 %, 16.4 %, 16.6 %")
