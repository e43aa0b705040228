"""Test coverage, as the last run of the unit tests left it in coverage's own data file.

The data is read, not made: running the tests is another session. Where there is no data, or where the source is newer
than it, the rows stay unmeasured, and say why.
"""

from pathlib import Path

import pytest

from harness.coverage_data import CoverageData, read_coverage, stale_reason
from harness.evidence import Evidence
from harness.subject import Subject
from suites.repository import repository_of

REQUIRED = 0.90
PACKAGES = ("bitnet", "harness")


@pytest.fixture(scope="module")
def coverage_data(subject: Subject) -> CoverageData:
    """The coverage of the repository that the subject's source belongs to."""
    root = repository_of(subject)
    data_file = root / ".coverage"
    reason = stale_reason(data_file, [root / package for package in PACKAGES])
    if reason is not None:
        pytest.skip(reason)
    return read_coverage(data_file, root)


@pytest.mark.criterion("0.test-coverage", "5.yellow.test-coverage")
@pytest.mark.parametrize("package", PACKAGES)
def test_lines_and_branches_are_covered(coverage_data: CoverageData, package: str, evidence: Evidence) -> None:
    rates = coverage_data.under(package)
    evidence.figure("line_coverage", 100 * rates.line_rate, "%")
    evidence.figure("branch_coverage", 100 * rates.branch_rate, "%")
    assert rates.line_rate >= REQUIRED
    assert rates.branch_rate >= REQUIRED


@pytest.mark.criterion("6.critical.unit-tests")
@pytest.mark.parametrize("module", ["calibration", "fine_tuner"])
def test_the_modules_that_lacked_tests_are_covered(
    coverage_data: CoverageData, subject: Subject, module: str, evidence: Evidence
) -> None:
    source_root = subject.declaration.source_root or Path()
    rates = coverage_data.under(f"{source_root.name}/{module}.py")
    evidence.figure(f"{module}_coverage", 100 * rates.line_rate, "%")
    assert rates.line_rate >= REQUIRED
