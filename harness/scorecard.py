"""The scorecard: evidence -> statuses -> categories -> overall, with the arithmetic shown and re-computable.

Every number of a scorecard follows from the evidence inside it (`checks`, `deselected`, `selected`, `exit_status`) and
from the rulebook; `recompute` does it again. Two runs with one seed differ in times alone, see `without_times`.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from harness.criteria import Criterion, Rulebook, Scoring, Status, load_rulebook
from harness.environment import Commit, Environment
from harness.errors import AuditError
from harness.evidence import (
    CheckRecord,
    DeselectedCheck,
    Profile,
    Record,
    Run,
    RunEnd,
    RunStart,
    SubjectInfo,
)
from harness.files import parse_json, read_text, write_text
from harness.status import RowFigure, judge

SCHEMA_VERSION = 2
OLDEST_VERSION = 1
SCORECARD_FILE = "scorecard.json"
TIME_FIELDS = ("started", "finished", "duration", "timings")


class Row(Record):
    """One criterion with its status and what that rests on.

    `figures` are the measurements of the declared figures, the worst of each first; `checks` and `deselected` are
    node ids of `Scorecard.checks` and `Scorecard.deselected`. A derived row has `derived_from`, a `score` in 0..1 (None
    where nothing was measured) and its `arithmetic`. `artefacts` are the digests of the files that its checks looked
    at, `environment` is the fingerprint of `Scorecard.environment`, `commit` the auditor's commit where it is known.
    """

    id: str
    section: str
    category: str
    title: str
    claim: str
    reading: str | None
    explanation: str
    weight: float
    status: Status
    reason: str
    credit: float
    figures: tuple[RowFigure, ...] = ()
    missing_figures: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    deselected: tuple[str, ...] = ()
    derived_from: tuple[str, ...] = ()
    score: float | None = None
    arithmetic: str = ""
    artefacts: dict[str, str] = Field(default_factory=dict)
    environment: str = ""
    commit: str | None = None
    command: str
    baseline: Status
    baseline_value: str


class Score(Record):
    """A weighted mean credit in 0..1 (None where no row has weight) with the rows behind it counted by status."""

    score: float | None
    credit: float
    weight: float
    counts: dict[Status, int]
    arithmetic: str


class CategoryScore(Score):
    """The score of one category."""

    id: str
    title: str


class Scorecard(Record):
    """The result of an audit; see the module's text.

    `rules` is the digest of the rulebook that judged, empty where that is unknown (schema version 1).
    """

    schema_version: int = Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    subject: SubjectInfo
    profile: Profile
    models: tuple[str, ...]
    seed: int
    only: tuple[str, ...]
    started: str
    finished: str
    duration: float
    environment: Environment
    commit: Commit | None
    complete: bool
    problems: tuple[str, ...]
    rules: str
    scoring: Scoring
    overall: Score
    categories: tuple[CategoryScore, ...]
    criteria: tuple[Row, ...]
    checks: tuple[CheckRecord, ...]
    deselected: tuple[DeselectedCheck, ...]
    selected: tuple[str, ...]
    collection_errors: tuple[str, ...]
    exit_status: int | None

    def row(self, criterion_id: str) -> Row | None:
        """The row of a criterion, if there is one."""
        return next((row for row in self.criteria if row.id == criterion_id), None)

    def checks_of(self, row: Row) -> tuple[CheckRecord, ...]:
        """The records of a row's own checks."""
        wanted = set(row.checks)
        return tuple(check for check in self.checks if check.nodeid in wanted)


# --------------------------------------------------------------------------- building


def build(run: Run, rulebook: Rulebook | None = None) -> Scorecard:
    """The scorecard of a run; rows in the order of the rulebook."""
    rulebook = rulebook or load_rulebook()
    start, end = run.start, run.end
    rows = _rows(run, rulebook)
    ordered = tuple(rows[criterion.id] for criterion in rulebook.criteria)
    return Scorecard(
        schema_version=SCHEMA_VERSION,
        subject=start.subject,
        profile=start.profile,
        models=start.models,
        seed=start.seed,
        only=start.only,
        started=start.started,
        finished=end.finished if end else "",
        duration=end.duration if end else 0.0,
        environment=start.environment,
        commit=start.commit,
        complete=not run.problems,
        problems=run.problems,
        rules=rulebook.digest,
        scoring=rulebook.scoring,
        overall=score_of(ordered),
        categories=tuple(_category(each, rulebook, ordered) for each in rulebook.categories),
        criteria=ordered,
        checks=run.records,
        deselected=start.deselected,
        selected=start.selected,
        collection_errors=start.collection_errors,
        exit_status=end.exit_status if end else None,
    )


def recompute(scorecard: Scorecard, rulebook: Rulebook | None = None) -> Scorecard:
    """The scorecard that the evidence inside a scorecard gives; equal to it unless one of them was changed."""
    start = RunStart(**{name: getattr(scorecard, name) for name in RunStart.model_fields if name != "kind"})
    end = None
    if scorecard.exit_status is not None:
        end = RunEnd(exit_status=scorecard.exit_status, finished=scorecard.finished, duration=scorecard.duration)
    return build(Run(start=start, records=scorecard.checks, end=end), rulebook)


def _rows(run: Run, rulebook: Rulebook) -> dict[str, Row]:
    """All rows by id: first the measured ones, then the derived ones, each after what it derives from."""
    rows = {each.id: _measured(each, run, rulebook) for each in rulebook.criteria if not each.derive}
    pending = [each for each in rulebook.criteria if each.derive]
    while pending:
        ready = [each for each in pending if all(source in rows for source in rulebook.sources(each.id))]
        if not ready:
            raise AuditError(f"criteria.toml: {pending[0].id} derives from itself; correct its derive entry")
        for each in ready:
            rows[each.id] = _derived(each, run, rulebook, rows)
        pending = [each for each in pending if each.id not in rows]
    return rows


def _measured(criterion: Criterion, run: Run, rulebook: Rulebook) -> Row:
    checks = [record for record in run.records if criterion.id in record.criteria]
    deselected = [check for check in run.start.deselected if criterion.id in check.criteria]
    verdict = judge(criterion, checks, deselected)
    return Row(
        **_told(criterion, run),
        status=verdict.status,
        reason=verdict.reason,
        credit=rulebook.scoring.credit[verdict.status],
        figures=verdict.figures,
        missing_figures=verdict.missing_figures,
        checks=tuple(check.nodeid for check in checks),
        deselected=tuple(check.nodeid for check in deselected),
        artefacts={name: digest for check in checks for name, digest in sorted(check.artefacts.items())},
    )


def _derived(criterion: Criterion, run: Run, rulebook: Rulebook, rows: Mapping[str, Row]) -> Row:
    assert criterion.derive is not None
    sources = rulebook.sources(criterion.id)
    if criterion.derive.mean_of:
        score, arithmetic = _mean_of([rows[source] for source in sources])
    else:
        score, arithmetic = _lowest_of(criterion.derive.figure_of, rows)
    status = Status.GREY if score is None else rulebook.scoring.status_of(score)
    return Row(
        **_told(criterion, run),
        status=status,
        reason=arithmetic,
        credit=rulebook.scoring.credit[status],
        derived_from=sources,
        score=score,
        arithmetic=arithmetic,
    )


def _told(criterion: Criterion, run: Run) -> dict[str, Any]:
    """What a row takes over from its criterion."""
    told = criterion.model_dump(exclude={"figures", "derive"})
    start = run.start
    ran = {"environment": start.environment.fingerprint, "commit": start.commit.id if start.commit else None}
    return told | ran | {"section": criterion.section, "command": _command(criterion.id, start)}


def _command(criterion_id: str, start: RunStart) -> str:
    words = ["bitnet-audit", "run", "--subject", start.subject.spec, "--profile", start.profile]
    words += [word for model in start.models for word in ("--model", model)]
    return shlex.join([*words, "--seed", str(start.seed), "--only", criterion_id])


# --------------------------------------------------------------------------- arithmetic


def _mean_of(rows: Sequence[Row]) -> tuple[float | None, str]:
    score = score_of(rows)
    if score.counts[Status.GREY] == len(rows):
        return None, f"none of the {len(rows)} rows was measured"
    return score.score, score.arithmetic


def _lowest_of(references: Sequence[str], rows: Mapping[str, Row]) -> tuple[float | None, str]:
    """The lowest of some figures, given in percent; one that is not finite, or missing beside others, counts as 0."""
    values: dict[str, float | None] = {}
    for reference in references:
        source, _, name = reference.partition("/")
        measured = [figure.value for figure in rows[source].figures if figure.name == name]
        values[reference] = min((each if math.isfinite(each) else 0.0 for each in measured), default=None)
    if all(value is None for value in values.values()):
        return None, f"not measured: {', '.join(values)}"
    shown = ", ".join(f"{key} {'missing' if value is None else f'{value:.1f} %'}" for key, value in values.items())
    lowest = min(value or 0.0 for value in values.values()) / 100
    return lowest, f"lowest of {shown} = {100 * lowest:.1f} %"


def score_of(rows: Sequence[Row]) -> Score:
    """The weighted mean credit of rows."""
    counts = {status: sum(row.status is status for row in rows) for status in Status}
    weight = math.fsum(row.weight for row in rows)
    credit = math.fsum(row.weight * row.credit for row in rows)
    if not weight:
        return Score(score=None, credit=0.0, weight=0.0, counts=counts, arithmetic="these rows carry no weight")
    arithmetic = f"sum of weight x credit {credit:g} / sum of weights {weight:g} = {100 * credit / weight:.1f} %"
    arithmetic += f"; {counts[Status.GREY]} of {len(rows)} rows not measured (credit 0)" if counts[Status.GREY] else ""
    return Score(score=credit / weight, credit=credit, weight=weight, counts=counts, arithmetic=arithmetic)


def _category(category: str, rulebook: Rulebook, rows: Sequence[Row]) -> CategoryScore:
    score = score_of([row for row in rows if row.category == category])
    return CategoryScore(id=category, title=rulebook.categories[category], **score.model_dump())


# --------------------------------------------------------------------------- files


def save(scorecard: Scorecard, path: Path) -> Path:
    """Write a scorecard as JSON, atomically."""
    return write_text(path, to_json(scorecard))


def to_json(scorecard: Scorecard) -> str:
    """The JSON text of a scorecard."""
    return scorecard.model_dump_json(indent=2) + "\n"


def load(path: Path) -> Scorecard:
    """Read a scorecard, also of an older schema version; raises AuditError when it is missing, damaged or unknown."""
    text = read_text(path, "the scorecard", "run the audit first")
    try:
        data = parse_json(text)
    except ValueError as error:
        raise AuditError(f"{path} is not JSON: {error}; run the audit again") from error
    return parse(data, str(path))


def parse(data: Any, source: str, oldest: int = OLDEST_VERSION) -> Scorecard:
    """Validate a scorecard given as JSON data; raises AuditError naming the source and the first fault.

    Data of an older schema version, from `oldest` on, is brought to the current one: what it does not hold is empty.
    """
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or not oldest <= version <= SCHEMA_VERSION:
        known = f"{oldest} to {SCHEMA_VERSION}" if oldest < SCHEMA_VERSION else str(SCHEMA_VERSION)
        raise AuditError(f"{source} has schema version {version!r}, not {known}; run the audit again")
    try:
        return Scorecard.model_validate(_upgraded(data, version))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AuditError(f"{source} is no scorecard: {where}: {first['msg']}; run the audit again") from error


def _upgraded(data: dict[str, Any], version: int) -> dict[str, Any]:
    """Data of version 1 as version 2: that one has no digest of its rules."""
    return data if version == SCHEMA_VERSION else data | {"schema_version": SCHEMA_VERSION, "rules": ""}


def without_times(scorecard: Scorecard) -> dict[str, Any]:
    """A scorecard as JSON data without what clocks say, to be compared with that of another run with one seed.

    TIME_FIELDS go, and so do the values and intervals of figures that are timings, the numbers of plots of them and the
    reasons of the rows that rest on them. That these figures were measured, what they are held to and the statuses
    that they give stay.
    """
    data = json.loads(to_json(scorecard))
    for holder in (data, *data["checks"]):
        for name in TIME_FIELDS:
            holder.pop(name, None)
    for check in data["checks"]:
        for figure in check["figures"].values():
            _drop_timing(figure)
        check["attachments"] = {name: _without_timing(each) for name, each in check["attachments"].items()}
    for row in data["criteria"]:
        if any(figure["timing"] for figure in row["figures"]):
            del row["reason"]
            row["figures"].sort(key=lambda figure: (figure["name"], figure["nodeid"]))  # not the worst one first
        for figure in row["figures"]:
            _drop_timing(figure)
    return dict(data)


def _drop_timing(figure: dict[str, Any]) -> None:
    if figure["timing"]:
        del figure["value"], figure["interval"]


def _without_timing(attachment: Any) -> Any:
    """An attachment without the numbers of a plot of timings."""
    if not isinstance(attachment, dict) or not attachment.get("timing"):
        return attachment
    return {name: value for name, value in attachment.items() if name not in ("x", "y", "intervals", "limits")}
