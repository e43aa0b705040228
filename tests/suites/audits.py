"""Running one suite on a made-up subject, inside the test process, and reading the records that it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.evidence import CheckRecord
from harness.mutants.audition import run_suite
from harness.mutants.mutant import Stage


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


def audit(folder: Path, stage: Stage, factory: str, props: Sequence[str] = ()) -> Audit:
    """Audit the subject that Python source makes, which defines ``factory()``."""
    return Audit(run_suite(stage, factory, folder, shared(folder.parent), props=props).records)


def audit_class(folder: Path, stage: Stage, subject: type, *arguments: object, props: Sequence[str] = ()) -> Audit:
    """Audit a subject whose class stands at the top of an importable module."""
    name, given = subject.__name__, ", ".join(map(repr, arguments))
    source = f"from pathlib import PosixPath\nfrom {subject.__module__} import {name}\n"
    return audit(folder, stage, f"{source}def factory():\n    return {name}({given})\n", props)


def shared(folder: Path) -> Path:
    """Where the small models of a test run are made, once."""
    place = folder.parent / "shared"
    place.mkdir(exist_ok=True)
    return place
