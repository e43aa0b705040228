import os
from pathlib import Path

import coverage
import pytest

from harness import coverage_data
from harness.coverage_data import CoverageData, CoverageRates
from harness.errors import AuditError

SOURCE = """\
def sign(x):
    if x > 0:
        return 1
    return -1
"""
CONFIGURATION = "[tool.coverage.run]\nbranch = true\nrelative_files = true\n"


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/signs.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(CONFIGURATION, encoding="utf-8")
    return tmp_path


def record(root, arcs=None, lines=None):
    """A data file as coverage itself writes it: these jumps between lines, or these lines, of signs.py."""
    data = coverage.CoverageData(basename=str(root / ".coverage"))
    if arcs is not None:
        data.add_arcs({"package/signs.py": arcs})
    else:
        data.add_lines({"package/signs.py": lines or []})
    data.write()
    return root / ".coverage"


def test_statements_and_branches_are_counted(repository):
    data_file = record(repository, arcs=[(-1, 1), (1, -1), (-1, 2), (2, 3), (3, -1)])
    rates = coverage_data.read_coverage(data_file, repository).under("package")
    assert rates == CoverageRates(statements=4, covered_statements=3, branches=2, covered_branches=1)
    assert (rates.line_rate, rates.branch_rate) == (0.75, 0.5)


def test_reading_leaves_the_working_directory_and_the_data_alone(repository):
    data_file = record(repository, arcs=[(-1, 1), (1, -1)])
    before = (Path.cwd(), data_file.read_bytes())
    coverage_data.read_coverage(data_file, repository)
    assert (Path.cwd(), data_file.read_bytes()) == before


def test_data_without_branches_is_refused(repository):
    with pytest.raises(AuditError, match="no branch data"):
        coverage_data.read_coverage(record(repository, lines=[1, 2, 3]), repository)


def test_a_repository_without_configuration_is_read_with_coverages_own(repository):
    (repository / "pyproject.toml").unlink()
    data_file = record(repository, arcs=[(-1, 1), (1, -1)])
    assert coverage_data.read_coverage(data_file, repository).under("package").statements == 4


@pytest.mark.parametrize("content", [b"", b"not a database", None])
def test_what_is_no_coverage_data_is_refused(repository, content):
    data_file = repository / ".coverage"
    if content is not None:
        data_file.write_bytes(content)
    with pytest.raises(AuditError, match="cannot be read as coverage data"):
        coverage_data.read_coverage(data_file, repository)


def test_data_of_a_file_that_is_gone_is_refused(repository):
    data_file = record(repository, arcs=[(-1, 1), (1, -1)])
    (repository / "package/signs.py").unlink()
    with pytest.raises(AuditError, match="cannot be read"):
        coverage_data.read_coverage(data_file, repository)


# --------------------------------------------------------------------------- sums


def test_a_prefix_is_a_folder_or_one_file_and_not_the_beginning_of_a_name():
    one, two = CoverageRates(10, 9, 4, 2), CoverageRates(30, 3, 0, 0)
    data = CoverageData({"bitnet/a.py": one, "bitnet/sub/b.py": two, "bitnet_extra/c.py": two})
    assert data.under("bitnet") == data.under("bitnet/") == CoverageRates(40, 12, 4, 2)
    assert data.under("bitnet/a.py") == one
    assert data.under("bitnet/a") == CoverageRates(0, 0, 0, 0)


def test_nothing_measured_is_not_a_number():
    rates = CoverageData({}).under("bitnet")
    for rate in (rates.line_rate, rates.branch_rate):
        assert rate != rate


# --------------------------------------------------------------------------- freshness


def test_missing_data_is_a_reason(repository):
    assert coverage_data.stale_reason(repository / ".coverage", [repository]) == (
        "No coverage data at .coverage; run the tests with coverage first (nox -s tests)."
    )


def test_source_changed_after_the_data_is_a_reason(repository):
    data_file = record(repository, arcs=[(-1, 1)])
    written = data_file.stat().st_mtime
    source = repository / "package/signs.py"
    os.utime(source, (written, written))
    assert coverage_data.stale_reason(data_file, [repository / "package"]) is None
    os.utime(source, (written + 1, written + 1))
    assert coverage_data.stale_reason(data_file, [repository / "package"]) == (
        "signs.py was changed after the coverage data was written; run the tests again (nox -s tests)."
    )
    assert coverage_data.stale_reason(data_file, [repository / "elsewhere"]) is None
