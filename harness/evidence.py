"""What checks leave behind: figures, notes and outcomes, written down one check at a time.

A run writes `evidence.jsonl`: one line about the run, one line for each check as it ends, one line when the run ends.
A run that is interrupted or killed therefore keeps every record it made, and is seen to lack its last line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, SupportsFloat

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from harness.artefacts import digest_of
from harness.environment import Commit, Environment
from harness.errors import AuditError

EVIDENCE_FILE = "evidence.jsonl"
Outcome = Literal["passed", "failed", "error", "skipped", "not_applicable"]
Profile = Literal["quick", "full"]


class Record(BaseModel):
    """Immutable data that survives JSON unchanged: NaN and infinity are written as the strings "NaN" and "Infinity"."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Figure(Record):
    """One measured number; `interval` is its 95 % interval where the check measured one.

    `timing` marks a number that follows from clock times, so that it differs between two runs with one seed.
    """

    value: float
    unit: str = ""
    interval: tuple[float, float] | None = None
    timing: bool = False

    @property
    def finite(self) -> bool:
        """Whether the value and both ends of the interval are finite."""
        return all(math.isfinite(each) for each in (self.value, *(self.interval or ())))


class CheckRecord(Record):
    """The evidence that one check gave for the criteria that it is marked with.

    `timings` are seconds, as measured; `artefacts` are digests of the files that were looked at, by name (see
    `harness.artefacts`); `line` is where the check starts in its file, 0 where that is unknown.
    """

    nodeid: str
    criteria: tuple[str, ...]
    outcome: Outcome
    message: str = ""
    figures: dict[str, Figure] = {}
    notes: tuple[str, ...] = ()
    attachments: dict[str, JsonValue] = {}
    timings: dict[str, tuple[float, ...]] = {}
    artefacts: dict[str, str] = {}
    line: int = Field(default=0, ge=0)
    command: str
    duration: float = Field(ge=0.0)


class DeselectedCheck(Record):
    """A check that belongs to another profile than the one that ran."""

    nodeid: str
    criteria: tuple[str, ...]
    profile: Profile


class SubjectInfo(Record):
    """Which subject was audited; `spec` is what `--subject` was given."""

    name: str
    version: str
    spec: str


class RunStart(Record):
    """What is known when the checks have been collected."""

    kind: Literal["start"] = "start"
    subject: SubjectInfo
    profile: Profile
    models: tuple[str, ...]
    seed: int
    only: tuple[str, ...]
    environment: Environment
    commit: Commit | None
    selected: tuple[str, ...]
    deselected: tuple[DeselectedCheck, ...]
    collection_errors: tuple[str, ...]
    started: str


class RunEnd(Record):
    """The last line of a run that ended by itself; `exit_status` is pytest's."""

    kind: Literal["end"] = "end"
    exit_status: int
    finished: str
    duration: float


class _Check(Record):
    kind: Literal["check"] = "check"
    record: CheckRecord


class Run(Record):
    """Everything that a run left behind."""

    start: RunStart
    records: tuple[CheckRecord, ...]
    end: RunEnd | None

    @property
    def problems(self) -> tuple[str, ...]:
        """Why this run is not complete; empty when it is."""
        recorded = [record.nodeid for record in self.records]
        missing = [nodeid for nodeid in self.start.selected if nodeid not in recorded]
        found = [f"not collected: {each}" for each in self.start.collection_errors]
        if not self.start.selected:
            found.append("no check was selected")
        if missing:
            found.append(f"{len(missing)} of {len(self.start.selected)} checks left no record, the first {missing[0]}")
        if len(set(recorded)) < len(recorded) or not set(recorded) <= set(self.start.selected):
            found.append("there are records of checks that were recorded before or not selected")
        if self.end is None:
            found.append("the run was killed before it ended")
        elif self.end.exit_status not in (0, 1):
            found.append(f"the run ended with pytest's exit status {self.end.exit_status}")
        return tuple(found)


# --------------------------------------------------------------------------- recording


class Evidence:
    """The fixture through which a check records what it measured; it judges nothing."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self.notes: list[str] = []
        self.attachments: dict[str, JsonValue] = {}
        self.timings: dict[str, tuple[float, ...]] = {}
        self.artefacts: dict[str, str] = {}

    def figure(
        self,
        name: str,
        value: SupportsFloat,
        unit: str = "",
        interval: tuple[SupportsFloat, SupportsFloat] | None = None,
        timing: bool = False,
    ) -> None:
        """Record a number, once a check; NaN is recorded as NaN and judged RED.

        `interval` is its 95 % interval; `timing` says that it follows from clock times, see `Figure`.
        """
        if name in self.figures:
            raise AuditError(f"the figure {name!r} was recorded twice in one check; record the worst value once")
        ends = None if interval is None else (float(interval[0]), float(interval[1]))
        self.figures[name] = Figure(value=float(value), unit=unit, interval=ends, timing=timing)

    def times(self, name: str, seconds: Sequence[float]) -> None:
        """Record raw clock times under a name, in the order in which they were measured."""
        self.timings[name] = tuple(map(float, seconds))

    def artefact(self, name: str, path: Path) -> None:
        """Record the digest of a file or folder that the figures were measured on."""
        self.artefacts[name] = digest_of(path)

    def note(self, text: str) -> None:
        """Record a sentence to be shown with the row."""
        self.notes.append(encodable(str(text)))

    def attach(self, name: str, value: Any) -> None:
        """Record JSON data (a curve, a table) under a name; arrays become lists, and every number must be finite."""
        try:
            text = json.dumps(value, allow_nan=False, default=_plain, ensure_ascii=False)
            text.encode("utf-8")  # a lone surrogate could not be written down
        except (TypeError, ValueError) as error:
            raise AuditError(f"the attachment {name!r} is not JSON with finite numbers: {error}") from error
        self.attachments[name] = json.loads(text)


def encodable(text: str) -> str:
    """Text with lone surrogates, which no file can hold, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy arrays and scalars, torch tensors
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


# --------------------------------------------------------------------------- writing and reading


class EvidenceWriter:
    """Appends the lines of a run to a file, each one flushed; starts the file anew."""

    def __init__(self, path: Path, start: RunStart) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(start.model_dump_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise AuditError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error

    def check(self, record: CheckRecord) -> None:
        """Append the record of a check."""
        self._append(_Check(record=record))

    def end(self, end: RunEnd) -> None:
        """Append the last line."""
        self._append(end)

    def _append(self, line: Record) -> None:
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(line.model_dump_json() + "\n")


_LINE: TypeAdapter[RunStart | _Check | RunEnd] = TypeAdapter(
    Annotated[RunStart | _Check | RunEnd, Field(discriminator="kind")]
)


def read_run(path: Path) -> Run:
    """Read what a run wrote, also one that was killed; raises AuditError when there is no run in the file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise AuditError(f"cannot read the evidence {path}: {error.strerror}; run the audit first") from error
    start, end, records = None, None, []
    for number, line in enumerate(lines, start=1):
        try:
            parsed = _LINE.validate_json(line)
        except ValidationError as error:
            if number == len(lines) and start is not None:
                break  # killed in the middle of a line: what came before it counts
            raise AuditError(f"{path}, line {number} is not evidence; run the audit again") from error
        if isinstance(parsed, RunStart):
            start = parsed
        elif isinstance(parsed, RunEnd):
            end = parsed
        else:
            records.append(parsed.record)
    if start is None:
        raise AuditError(f"{path} holds no run; run the audit again")
    return Run(start=start, records=tuple(records), end=end)
