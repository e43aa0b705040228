"""Scorecards as data: what the dashboard reads of `scorecard.json`, in whatever version it was written.

The auditor is another program; its files are read here by their JSON alone. Fields that are not needed are left alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bitnet.checkpoint import read_json
from bitnet.errors import BitnetError, first_complaint

SCORECARD = "scorecard.json"
#: How much better a colour is; GREY is neither better nor worse than any.
_RANK = {"GREEN": 2, "YELLOW": 1, "RED": 0}


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Measured(_Told):
    """A figure that a check recorded; NaN and infinity are among the values."""

    value: float
    unit: str = ""
    interval: tuple[float, float] | None = None


class Judged(Measured):
    """A figure of a row, with what it is held to."""

    name: str
    target: str = ""
    tolerance: str | None = None
    status: str
    nodeid: str = ""
    timing: bool = False


class Check(_Told):
    """The evidence of one check."""

    nodeid: str
    outcome: str
    message: str = ""
    figures: dict[str, Measured] = {}
    notes: tuple[str, ...] = ()
    command: str = ""
    duration: float = 0.0


class Row(_Told):
    """One criterion: its status now and in the baseline, and what that rests on."""

    id: str
    category: str
    title: str
    claim: str
    reading: str | None = None
    explanation: str = ""
    weight: float = 1.0
    status: str
    reason: str
    figures: tuple[Judged, ...] = ()
    checks: tuple[str, ...] = ()
    derived_from: tuple[str, ...] = ()
    arithmetic: str = ""
    command: str
    baseline: str
    baseline_value: str = ""

    @property
    def movement(self) -> str:
        """Which way the status moved since the baseline."""
        if self.status == self.baseline:
            return "same"
        if self.baseline not in _RANK or self.status not in _RANK:
            return "measured" if self.status in _RANK else "not measured now"
        return "better" if _RANK[self.status] > _RANK[self.baseline] else "worse"


class Score(_Told):
    """A score in 0..1, None where nothing has weight, and how it came about."""

    score: float | None
    counts: dict[str, int]
    arithmetic: str = ""


class Category(Score):
    """The score of one category."""

    id: str
    title: str


class Subject(_Told):
    """What was audited."""

    name: str
    version: str = ""


class Commit(_Told):
    """The commit of the auditor's sources."""

    id: str
    dirty: bool = False


class Scorecard(_Told):
    """The result of an audit."""

    subject: Subject
    profile: str
    models: tuple[str, ...] = ()
    started: str
    duration: float = 0.0
    environment: dict[str, Any] = {}
    commit: Commit | None = None
    complete: bool
    problems: tuple[str, ...] = ()
    overall: Score
    categories: tuple[Category, ...]
    criteria: tuple[Row, ...]
    checks: tuple[Check, ...] = ()

    @property
    def revision(self) -> str:
        """The commit in short."""
        if self.commit is None:
            return "commit unknown"
        return f"commit {self.commit.id[:12]}{' with changes' if self.commit.dirty else ''}"

    def checks_of(self, row: Row) -> tuple[Check, ...]:
        """The evidence of a row, what went wrong first."""
        wanted = set(row.checks)
        found = [check for check in self.checks if check.nodeid in wanted]
        return tuple(sorted(found, key=lambda check: check.outcome in ("passed", "not_applicable")))


def scorecard_file(reports: Path) -> Path:
    """Where the last scorecard lies in a folder of reports: in `latest`, or in the folder itself."""
    latest = reports / "latest" / SCORECARD
    own = reports / SCORECARD
    return own if own.is_file() and not latest.is_file() else latest


def load_scorecard(path: Path) -> Scorecard:
    """Read a scorecard.

    Raises:
        BitnetError: it is missing, no JSON, or lacks what the dashboard shows.
    """
    if not path.is_file():
        raise BitnetError(
            f"There is no scorecard at {path}: run `nox -s audit`, or name another folder with --reports."
        )
    try:
        return Scorecard.model_validate(read_json(path))
    except ValidationError as error:
        raise BitnetError(f"{path} is no scorecard at {first_complaint(error)}: run the audit again.") from None


@dataclass(frozen=True)
class History:
    """Earlier scorecards, the oldest first, and a sentence for each file that could not be read."""

    scorecards: tuple[Scorecard, ...]
    unreadable: tuple[str, ...]


def history_files(reports: Path) -> tuple[Path, ...]:
    """The scorecards that a folder of reports keeps of earlier runs, and the last one."""
    last = scorecard_file(reports)
    folder = reports / "history" if (reports / "history").is_dir() else reports.parent / "history"
    return (*sorted(folder.glob("*.json")), *([last] if last.is_file() else []))


def history(scorecards: list[Scorecard | BitnetError]) -> History:
    """Put scorecards in order; two of one moment are one."""
    found = {each.started: each for each in scorecards if isinstance(each, Scorecard)}
    told = tuple(str(each) for each in scorecards if isinstance(each, BitnetError))
    return History(tuple(found[moment] for moment in sorted(found)), told)
