"""What the tests covered, read from coverage's own data file through coverage's own API."""

import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
from coverage.exceptions import CoverageException

from harness.errors import AuditError


@dataclass(frozen=True)
class CoverageRates:
    """Statements and branches that ran, summed over some files."""

    statements: int
    covered_statements: int
    branches: int
    covered_branches: int

    @property
    def line_rate(self) -> float:
        """Covered statements over all statements; NaN where there are none, so that an empty report never passes."""
        return self.covered_statements / self.statements if self.statements else float("nan")

    @property
    def branch_rate(self) -> float:
        """Covered branches over all branches; NaN where no branch was measured."""
        return self.covered_branches / self.branches if self.branches else float("nan")


@dataclass(frozen=True)
class CoverageData:
    """The rates of every measured file, by its path relative to the repository root (POSIX separators)."""

    files: dict[str, CoverageRates]

    def under(self, prefix: str) -> CoverageRates:
        """The summed rates of the files under the folder ``prefix``, or of the one file of that name."""
        chosen = [
            rates for path, rates in self.files.items() if path == prefix or path.startswith(prefix.rstrip("/") + "/")
        ]
        return CoverageRates(
            statements=sum(rates.statements for rates in chosen),
            covered_statements=sum(rates.covered_statements for rates in chosen),
            branches=sum(rates.branches for rates in chosen),
            covered_branches=sum(rates.covered_branches for rates in chosen),
        )


def stale_reason(data_file: Path, sources: Sequence[Path]) -> str | None:
    """Why ``data_file`` says nothing about the source as it is now, or None where it does.

    The reason is a sentence: the file is missing, or a source file under ``sources`` (folders) was changed after it.
    """
    if not data_file.is_file():
        return f"No coverage data at {data_file.name}; run the tests with coverage first (nox -s tests)."
    measured = data_file.stat().st_mtime
    newer = [path for folder in sources for path in sorted(folder.rglob("*.py")) if path.stat().st_mtime > measured]
    if newer:
        return f"{newer[0].name} was changed after the coverage data was written; run the tests again (nox -s tests)."
    return None


def read_coverage(data_file: Path, root: Path) -> CoverageData:
    """Read line and branch counts per file from a coverage data file.

    ``root`` is the folder that the measured paths are relative to, and where coverage's configuration is looked up.
    Raises AuditError where the file is no coverage data, is empty, or was recorded without branches.
    """
    report = _json_report(data_file, root)
    if not report["meta"]["branch_coverage"]:
        raise AuditError(f"{data_file} has no branch data; run the tests with branch coverage switched on.")
    files = {
        Path(path).as_posix(): CoverageRates(
            statements=entry["summary"]["num_statements"],
            covered_statements=entry["summary"]["covered_lines"],
            branches=entry["summary"]["num_branches"],
            covered_branches=entry["summary"]["covered_branches"],
        )
        for path, entry in report["files"].items()
    }
    return CoverageData(files)


def _json_report(data_file: Path, root: Path) -> dict[str, Any]:
    """Coverage's own JSON report of ``data_file``, as a dictionary."""
    config = root / "pyproject.toml"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(root):
        target = Path(folder) / "coverage.json"
        try:
            reader = coverage.Coverage(data_file=str(data_file), config_file=str(config) if config.is_file() else False)
            reader.load()
            reader.json_report(outfile=str(target))
        except CoverageException as error:
            raise AuditError(f"{data_file} cannot be read as coverage data ({error}); run the tests again.") from error
        report: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return report
