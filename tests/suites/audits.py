"""Running one suite on a made-up subject, inside the test process, and reading the records that it leaves."""

import ast
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.evidence import EVIDENCE_FILE, CheckRecord, read_run

REPOSITORY = Path(__file__).parents[2]
# Plugins of the outer run that have no business in the inner one; the last one collects all garbage five times a run.
UNWANTED = ("cacheprovider", "xdist", "cov", "logging", "unraisableexception")


@dataclass(frozen=True)
class Audit:
    """The records of one run over one suite."""

    records: tuple[CheckRecord, ...]

    def with_outcome(self, *outcomes: str) -> set[str]:
        """The names of the checks with one of these outcomes, parameters that name models and settings left out."""
        return {record.nodeid.partition("::")[2] for record in self.records if record.outcome in outcomes}

    @property
    def red(self) -> set[str]:
        """The checks that failed or broke, by function."""
        return {name.partition("[")[0] for name in self.with_outcome("failed", "error")}

    def messages(self) -> str:
        """What went wrong, for the report of a test that expected otherwise."""
        return "\n".join(f"{record.nodeid}: {record.outcome}: {record.message}" for record in self.records)


def audit(folder: Path, suite: str, factory: str, models: Sequence[Path] = (), only: str = "") -> Audit:
    """Audit a subject with one suite.

    ``factory`` is Python source that defines ``factory()``; ``only`` selects checks by name, as pytest's ``-k`` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "audited_subject.py"
    file.write_text(factory, encoding="utf-8")
    words = ["-q", "-p", "harness.plugin", *(word for name in UNWANTED for word in ("-p", f"no:{name}"))]
    words += ["--rootdir", str(REPOSITORY), "-c", str(REPOSITORY / "pyproject.toml"), "--basetemp", str(folder / "tmp")]
    words += ["--subject", f"{file}:factory", "--scorecard", str(folder / "evidence")]
    words += [word for model in models for word in ("--model", str(model))]
    words += ["-k", only] if only else []
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        pytest.main([*words, str(REPOSITORY / "suites" / suite)])
    run = read_run(folder / "evidence" / EVIDENCE_FILE)
    assert run.problems == (), f"{run.problems}\n{output.getvalue()}"
    return Audit(run.records)


def audit_class(folder: Path, suite: str, subject: type, models: Sequence[Path] = (), only: str = "") -> Audit:
    """Audit a subject that a class at the top of an importable module makes."""
    return audit(folder, suite, f"from {subject.__module__} import {subject.__name__} as factory\n", models, only)


def audit_defect(
    folder: Path, suite: str, subject: type, defect: str, models: Sequence[Path] = (), only: str = ""
) -> Audit:
    """Audit a subject whose class, at the top of an importable module, takes its defect as the only argument."""
    name = subject.__name__
    source = f"from {subject.__module__} import {name}\ndef factory():\n    return {name}({defect!r})\n"
    return audit(folder, suite, source, models, only)


def checks_in(suite: str) -> set[str]:
    """All check functions of a suite, from its source: between them its defects must turn all of these RED."""
    tree = ast.parse((REPOSITORY / "suites" / suite).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
