"""Low coverage turns its own checks RED; coverage that is missing or stale is not measured, and never passes."""

import os
from collections.abc import Mapping
from pathlib import Path

import coverage
import pytest

from tests.suites.audits import Audit, audit, checks_in

SUITE = "test_coverage.py"

PACKAGES = "test_lines_and_branches_are_covered"
MODULES = "test_the_modules_that_lacked_tests_are_covered"

MODULE = "def f(x):\n    if x:\n        return 1\n    return 2\n"
FILES = ("bitnet/calibration.py", "bitnet/fine_tuner.py", "bitnet/other.py", "harness/other.py")
COVERED = [(-1, 1), (1, -1), (-1, 2), (2, 3), (3, -1), (2, 4), (4, -1)]
ONE_BRANCH = [arc for arc in COVERED if arc != (2, 4)]
ONE_LINE = [arc for arc in COVERED if 4 not in arc]

SHORTFALLS = {
    # jumps between lines that were seen, where not all of them were -> what has to turn RED
    "a branch of the auditor": ({"harness/other.py": ONE_BRANCH}, {PACKAGES}),
    "a line of the auditor": ({"harness/other.py": ONE_LINE}, {PACKAGES}),
    "a branch of the subject": ({"bitnet/other.py": ONE_BRANCH}, {PACKAGES}),
    "a line of calibration": ({"bitnet/calibration.py": ONE_LINE}, {PACKAGES, MODULES}),
    "fine-tuning was never imported": ({"bitnet/fine_tuner.py": None}, {MODULES}),
    "the auditor was not measured": ({"harness/other.py": None}, {PACKAGES}),
}


def make(folder: Path, arcs: Mapping[str, list[tuple[int, int]] | None]) -> Path:
    """A repository with made-up modules and a data file that says what was seen of them (None: nothing)."""
    root = folder / "repository"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(MODULE, encoding="utf-8")
    (root / "pyproject.toml").write_text("[tool.coverage.run]\nbranch = true\nrelative_files = true\n")
    data = coverage.CoverageData(basename=str(root / ".coverage"))
    seen = dict.fromkeys(FILES, COVERED) | arcs
    data.add_arcs({name: each for name, each in seen.items() if each is not None})
    data.write()
    return root


def run(folder: Path, root: Path) -> Audit:
    source = (
        "from pathlib import Path\nfrom tests.suites.subjects import BareSubject\n"
        f"def factory():\n    return BareSubject(Path({str(root / 'bitnet')!r}))\n"
    )
    return audit(folder, SUITE, source)


def test_full_coverage_passes_every_check(tmp_path: Path) -> None:
    done = run(tmp_path, make(tmp_path, {}))
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    assert {figure.value for record in done.records for figure in record.figures.values()} == {100}


@pytest.mark.parametrize("shortfall", SHORTFALLS)
def test_a_shortfall_turns_its_own_checks_red(tmp_path: Path, shortfall: str) -> None:
    arcs, expected = SHORTFALLS[shortfall]
    done = run(tmp_path, make(tmp_path, arcs))
    assert done.red == expected, done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*(expected for _, expected in SHORTFALLS.values())) == checks_in(SUITE)


def test_data_that_is_missing_is_not_measured(tmp_path: Path) -> None:
    root = make(tmp_path, {})
    (root / ".coverage").unlink()
    assert {record.outcome for record in run(tmp_path, root).records} == {"skipped"}


def test_data_older_than_the_source_is_not_measured(tmp_path: Path) -> None:
    root = make(tmp_path, {})
    later = (root / ".coverage").stat().st_mtime + 1
    os.utime(root / "harness/other.py", (later, later))
    done = run(tmp_path, root)
    assert {record.outcome for record in done.records} == {"skipped"}
    assert "other.py was changed" in done.records[0].message


def test_data_without_branches_or_of_another_kind_is_red(tmp_path: Path) -> None:
    root = make(tmp_path, {})
    (root / ".coverage").write_bytes(b"no database")
    assert run(tmp_path, root).red == {PACKAGES, MODULES}


def test_a_subject_installed_without_its_repository_is_not_measured(tmp_path: Path) -> None:
    root = make(tmp_path, {})
    (root / "pyproject.toml").unlink()
    assert {record.outcome for record in run(tmp_path, root).records} == {"skipped"}
