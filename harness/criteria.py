"""The rulebook: each row of the forensic audit as a criterion, and the rules that give it a status (criteria.toml)."""

from __future__ import annotations

import hashlib
import json
import tomllib
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.comparison import Comparison
from harness.errors import AuditError

CRITERIA_FILE = Path(__file__).with_name("criteria.toml")


class Status(StrEnum):
    """The four colours of a row: met, met within tolerance, not met, not measured."""

    GREEN = "GREEN"
    YELLOW = "YELLOW"
    RED = "RED"
    GREY = "GREY"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FigureRule(_Data):
    """What one figure of a criterion is held to; comparisons as text, see `harness.comparison`."""

    target: str
    tolerance: str | None = None
    unit: str = ""
    judged_on: Literal["value", "interval"] = "value"

    @field_validator("target", "tolerance")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        return None if text is None else Comparison.parse(text).text


class Derivation(_Data):
    """A row computed from other rows: the weighted mean credit of rows, or the lowest of some figures in percent."""

    mean_of: tuple[str, ...] = ()
    figure_of: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _exactly_one(self) -> Derivation:
        if bool(self.mean_of) == bool(self.figure_of):
            raise ValueError("derive needs exactly one of mean_of and figure_of")
        return self


class Criterion(_Data):
    """One row of the audit: what it claims, how that is read and measured, and where it stood in the baseline."""

    id: str
    category: str
    title: str
    claim: str
    reading: str | None = None
    explanation: str
    weight: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    baseline: Status
    baseline_value: str
    figures: dict[str, FigureRule] = {}
    derive: Derivation | None = None

    @property
    def section(self) -> str:
        """The audit's section, such as "1.1" or "5"."""
        head, second, *_ = [*self.id.split("."), ""]
        return f"{head}.{second}" if second.isdigit() else head

    @model_validator(mode="after")
    def _measured_or_derived(self) -> Criterion:
        if self.derive and self.figures:
            raise ValueError(f"{self.id}: a derived row takes its figures from other rows and declares none")
        return self


class Scoring(_Data):
    """How statuses become scores and derived scores become statuses; scores lie in 0..1."""

    credit: dict[Status, float]
    green_from: float
    yellow_from: float

    @field_validator("credit")
    @classmethod
    def _complete(cls, credit: dict[Status, float]) -> dict[Status, float]:
        if set(credit) != set(Status):
            raise ValueError("credit needs a value for each of GREEN, YELLOW, RED and GREY")
        return credit

    def status_of(self, score: float) -> Status:
        """The status of a derived score in 0..1."""
        if score >= self.green_from:
            return Status.GREEN
        return Status.YELLOW if score >= self.yellow_from else Status.RED


class BaselineFacts(_Data):
    """Figures of the forensic audit that belong to no row."""

    title: str
    date: str
    project: str
    core_features_claimed: int
    lines_of_code: dict[str, int]
    lines_of_code_range: tuple[int, int]
    path_to_100_percent: dict[str, int]
    weeks_to_production: tuple[int, int]


class Rulebook(_Data):
    """All criteria with the scoring rules; `categories` gives their order and titles.

    `trends` are the figures, as "criterion/figure", that reports follow from run to run.
    """

    scoring: Scoring
    baseline: BaselineFacts
    categories: dict[str, str]
    trends: tuple[str, ...] = ()
    criteria: tuple[Criterion, ...] = Field(alias="criterion")

    @model_validator(mode="after")
    def _consistent(self) -> Rulebook:
        ids = [criterion.id for criterion in self.criteria]
        if repeated := sorted({each for each in ids if ids.count(each) > 1}):
            raise ValueError(f"criterion ids appear twice: {', '.join(repeated)}")
        for criterion in self.criteria:
            if criterion.category not in self.categories:
                raise ValueError(f"{criterion.id}: unknown category {criterion.category!r}")
            if criterion.derive:
                self._check_derivation(criterion, criterion.derive)
        if unknown := [reference for reference in self.trends if reference not in self._figures]:
            raise ValueError(f"trends: {unknown[0]!r} is declared by no criterion")
        return self

    @property
    def _figures(self) -> set[str]:
        return {f"{each.id}/{name}" for each in self.criteria for name in each.figures}

    def _check_derivation(self, criterion: Criterion, derive: Derivation) -> None:
        for pattern in derive.mean_of:
            matched = self.matching([pattern])
            if not matched or criterion.id in matched:
                raise ValueError(f"{criterion.id}: mean_of {pattern!r} names no criterion, or its own row")
        for reference in derive.figure_of:
            if reference not in self._figures:
                raise ValueError(f"{criterion.id}: figure_of {reference!r} is declared by no criterion")

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that two rulebooks share only where they judge by the same rules."""
        text = json.dumps(self.model_dump(mode="json", exclude={"baseline", "trends"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def matching(self, patterns: tuple[str, ...] | list[str]) -> tuple[str, ...]:
        """The ids that any of the patterns names (`*` stands for anything), in the order of the rulebook."""
        return tuple(each.id for each in self.criteria if any(fnmatchcase(each.id, pattern) for pattern in patterns))

    def sources(self, criterion_id: str) -> tuple[str, ...]:
        """The ids that a row is derived from; none for a row that is measured."""
        criterion = self.get(criterion_id)
        if criterion is None or criterion.derive is None:
            return ()
        figures = [reference.partition("/")[0] for reference in criterion.derive.figure_of]
        return self.matching([*criterion.derive.mean_of, *figures])

    def get(self, criterion_id: str) -> Criterion | None:
        """The criterion with that id, if there is one."""
        return next((each for each in self.criteria if each.id == criterion_id), None)


def parse_rulebook(data: dict[str, Any], source: str) -> Rulebook:
    """Validate a rulebook given as data; raises AuditError naming the source and the first fault."""
    try:
        return Rulebook.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AuditError(f"{source}: {where or 'rulebook'}: {first['msg']}; correct the file") from error


@cache
def load_rulebook() -> Rulebook:
    """The rulebook of this installation."""
    return parse_rulebook(tomllib.loads(CRITERIA_FILE.read_text(encoding="utf-8")), CRITERIA_FILE.name)
