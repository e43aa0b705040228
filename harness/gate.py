"""The gate: thresholds from pyproject.toml held to a scorecard, whose statuses and scores are done again first.

The thresholds are data, in `[tool.bitnet-audit.gate]`:

    overall = ">= 0.5"                               # the overall score, in 0..1
    max_red = 20                                     # at most so many RED rows
    must_be_green = ["A.packing-exact"]              # rows that have to be GREEN
    expected_failures = "reports/expected-failures.txt"      # beside pyproject.toml, see `harness.expectations`
    against = "reports/main.json"                    # a stored scorecard, behind which nothing may fall
    slack = 0.02                                     # ... by more than its interval, or by this share of the figure
    [tool.bitnet-audit.gate.categories]
    architecture = ">= 0.9"                          # the score of a category, in 0..1
    [tool.bitnet-audit.gate.criteria]
    "1.1.*" = "YELLOW"                               # this status or a better one; * stands for anything
    [tool.bitnet-audit.gate.figures]
    "0.test-coverage/line_coverage" = ">= 90"        # the worst measurement of a figure of a row

Besides, a scorecard breaches the gate when its run was not complete, when a row is missing or unknown, when a figure
is not finite, when its schema version is another one, or when anything in it is not what its own evidence gives.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.comparison import Comparison
from harness.criteria import Rulebook, Status, load_rulebook
from harness.diff import compare
from harness.errors import AuditError
from harness.evidence import Record
from harness.expectations import Expectations
from harness.files import parse_json, read_text
from harness.scorecard import SCHEMA_VERSION, Row, Scorecard, parse, recompute

TABLE = "tool.bitnet-audit.gate"


class Thresholds(BaseModel):
    """The gate's thresholds; comparisons as text, see `harness.comparison`. Paths are relative to pyproject.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overall: str | None = None
    max_red: int | None = Field(default=None, ge=0)
    must_be_green: tuple[str, ...] = ()
    categories: dict[str, str] = {}
    criteria: dict[str, Literal[Status.GREEN, Status.YELLOW]] = {}
    figures: dict[str, str] = {}
    slack: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    expected_failures: Path | None = None
    against: Path | None = None

    @field_validator("overall")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        return None if text is None else Comparison.parse(text).text

    @field_validator("categories")
    @classmethod
    def _scores_readable(cls, scores: dict[str, str]) -> dict[str, str]:
        return {name: Comparison.parse(text).text for name, text in scores.items()}

    @field_validator("figures")
    @classmethod
    def _all_readable(cls, figures: dict[str, str]) -> dict[str, str]:
        if unnamed := [name for name in figures if "/" not in name]:
            raise ValueError(f'{unnamed[0]!r} names no figure; write "criterion/figure"')
        return {name: Comparison.parse(text).text for name, text in figures.items()}


@dataclass(frozen=True)
class Breach:
    """One threshold that was not held; `row` is the row that fell short, where an expected failure may excuse that."""

    criterion: str
    measured: str
    threshold: str
    row: str = ""

    def __str__(self) -> str:
        return f"{self.criterion}: measured {self.measured}, threshold {self.threshold}"


@dataclass(frozen=True)
class Judgement:
    """What the gate found: breaches, the ones that were expected (with the reasons given), and warnings."""

    breaches: tuple[Breach, ...]
    expected: tuple[tuple[Breach, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether the gate is passed."""
        return not self.breaches


def load_thresholds(pyproject: Path, rulebook: Rulebook | None = None) -> Thresholds:
    """Read the thresholds; raises AuditError on a missing table, an unreadable value or an unknown criterion."""
    text = read_text(pyproject, "the thresholds", "name the file with --pyproject")
    try:
        data: Any = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{pyproject} is not TOML: {error}; correct it") from error
    table = data
    for name in TABLE.split("."):
        table = table.get(name) if isinstance(table, dict) else None
    if table is None:
        raise AuditError(f"{pyproject} has no table [{TABLE}]; add one with at least one threshold")
    try:
        thresholds = Thresholds.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AuditError(f"{pyproject}, [{TABLE}], {where}: {first['msg']}; correct it") from error
    for kind, named in _unknown(thresholds, rulebook or load_rulebook()):
        raise AuditError(f"{pyproject}, [{TABLE}] names the unknown {kind} {named!r}; see harness/criteria.toml")
    places = {
        name: pyproject.parent / path
        for name in ("expected_failures", "against")
        if (path := getattr(thresholds, name))
    }
    return thresholds.model_copy(update=places)


def _unknown(thresholds: Thresholds, rulebook: Rulebook) -> Iterable[tuple[str, str]]:
    for named in (*thresholds.must_be_green, *(key.partition("/")[0] for key in thresholds.figures)):
        if rulebook.get(named) is None:
            yield "criterion", named
    yield from (("criterion", named) for named in thresholds.criteria if not rulebook.matching([named]))
    yield from (("category", named) for named in thresholds.categories if named not in rulebook.categories)


def check_file(
    scorecard: Path,
    thresholds: Thresholds,
    rulebook: Rulebook | None = None,
    expectations: Expectations | None = None,
    against: Scorecard | None = None,
) -> Judgement:
    """As `check`, of a scorecard file of the current schema version; raises AuditError where there is no such file."""
    text = read_text(scorecard, "the scorecard", "run the audit first", errors="replace")
    try:
        parsed = parse(parse_json(text), scorecard.name, oldest=SCHEMA_VERSION)
    except ValueError as error:  # AuditError is a ValueError
        return Judgement((Breach("scorecard", str(error), "a readable scorecard of this version"),))
    return check(parsed, thresholds, rulebook, expectations, against)


def check(
    scorecard: Scorecard,
    thresholds: Thresholds,
    rulebook: Rulebook | None = None,
    expectations: Expectations | None = None,
    against: Scorecard | None = None,
) -> Judgement:
    """Hold a scorecard to the thresholds, judged on what its evidence gives and not on what it says.

    Raises:
        AuditError: `against` is of another subject, profile or set of models.
    """
    rulebook, expectations = rulebook or load_rulebook(), expectations or Expectations()
    honest = recompute(scorecard, rulebook)
    breaches = [Breach("run", problem, "a complete run") for problem in honest.problems]
    if scorecard.only:
        breaches.append(Breach("run", f"restricted to {', '.join(scorecard.only)}", "a run of every check"))
    breaches += _differences(scorecard, honest, rulebook)
    breaches += _not_finite(honest)
    covering = {row.id: expectations.covering(honest, row) for row in honest.criteria}
    reasons = {row: entry.reason or entry.place for row, entry in covering.items() if entry}
    breaches += _missed(honest, thresholds, rulebook, reasons)
    if against:
        breaches += _regressions(against, honest, thresholds, rulebook)
    return Judgement(
        breaches=tuple(breach for breach in breaches if breach.row not in reasons),
        expected=tuple((breach, reasons[breach.row]) for breach in breaches if breach.row in reasons),
        warnings=tuple(expectations.warnings(honest)),
    )


def _regressions(against: Scorecard, scorecard: Scorecard, thresholds: Thresholds, rulebook: Rulebook) -> list[Breach]:
    _assert_alike(against, scorecard)
    changes = compare(against, scorecard, rulebook, thresholds.slack)
    breaches = [
        Breach(each.id, str(each.after or "no row"), f"no regression from {each.before}", row=each.id)
        for each in changes.regressions
    ]
    for figure in changes.figure_regressions:
        before = f"{figure.before:.6g}" + _ends(figure.before_interval)
        after = f"{figure.after:.6g}" + _ends(figure.after_interval)
        breaches.append(Breach(f"{figure.id}/{figure.name}", after, f"no regression from {before}", row=figure.id))
    return breaches


def _assert_alike(against: Scorecard, scorecard: Scorecard) -> None:
    for what, old, new in (
        ("subject", against.subject.name, scorecard.subject.name),
        ("profile", against.profile, scorecard.profile),
        ("models", ", ".join(against.models), ", ".join(scorecard.models)),
    ):
        if old != new:
            raise AuditError(f"the stored scorecard is of the {what} {old}, not {new}; store one that can be compared")


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.6g} to {interval[1]:.6g})"


# --------------------------------------------------------------------------- said, against what the evidence gives


def _differences(scorecard: Scorecard, honest: Scorecard, rulebook: Rulebook) -> list[Breach]:
    ids = [row.id for row in scorecard.criteria]
    known = {criterion.id for criterion in rulebook.criteria}
    breaches = [Breach(each, "missing from the scorecard", "every row present") for each in known.difference(ids)]
    breaches.sort(key=lambda breach: breach.criterion)
    breaches += [Breach(each, "unknown row", "rows of the rulebook") for each in ids if each not in known]
    breaches += [
        Breach(each, "repeated row", "every row once") for each in sorted({i for i in ids if ids.count(i) > 1})
    ]
    for row in scorecard.criteria:
        expected = honest.row(row.id)
        breaches += _edited(row.id, row, expected) if expected else []
    breaches += _edited("overall", scorecard.overall, honest.overall)
    told, given = {each.id: each for each in scorecard.categories}, {each.id: each for each in honest.categories}
    for name in sorted(told.keys() | given.keys()):
        if name not in told or name not in given:
            breaches.append(Breach(f"category {name}", "missing or unknown", "the categories of the rulebook"))
        else:
            breaches += _edited(f"category {name}", told[name], given[name])
    for name in ("complete", "problems", "rules", "scoring"):
        if getattr(scorecard, name) != getattr(honest, name):
            breaches.append(_edit(name, getattr(scorecard, name), getattr(honest, name)))
    return breaches


def _edited(name: str, told: Record, given: Record) -> list[Breach]:
    """One breach for each field that differs; compared as JSON text, in which NaN equals NaN."""
    fields = [
        field
        for field in type(given).model_fields
        if told.model_dump_json(include={field}) != given.model_dump_json(include={field})
    ]
    return [_edit(f"{name} {field}", getattr(told, field), getattr(given, field)) for field in fields]


def _edit(name: str, told: Any, given: Any) -> Breach:
    return Breach(name, _short(told), f"{_short(given)} (what the evidence gives)")


def _short(value: Any) -> str:
    text = value.value if isinstance(value, Status) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _not_finite(scorecard: Scorecard) -> list[Breach]:
    return [
        Breach(f"{'/'.join(check.criteria)} {name}", f"{figure.value} in {check.nodeid}", "a finite number")
        for check in scorecard.checks
        for name, figure in check.figures.items()
        if not figure.finite
    ]


# --------------------------------------------------------------------------- thresholds


def _missed(scorecard: Scorecard, thresholds: Thresholds, rulebook: Rulebook, expected: Iterable[str]) -> list[Breach]:
    breaches = _missed_scores(scorecard, thresholds)
    red = [row.id for row in scorecard.criteria if row.status is Status.RED]
    unexpected = [each for each in red if each not in set(expected)]
    if thresholds.max_red is not None and len(unexpected) > thresholds.max_red:
        known = len(red) - len(unexpected)
        beside = f" beside {known} that were expected" if known else ""
        breaches.append(Breach("RED rows", f"{len(unexpected)}{beside}", f"<= {thresholds.max_red}"))
    wanted = dict.fromkeys(thresholds.must_be_green, Status.GREEN)
    for pattern, status in thresholds.criteria.items():
        wanted |= {each: status for each in rulebook.matching([pattern]) if wanted.get(each) is not Status.GREEN}
    for criterion_id, least in wanted.items():
        breaches += _missed_status(criterion_id, scorecard.row(criterion_id), least)
    for reference, text in thresholds.figures.items():
        breaches += _missed_figure(scorecard, reference, Comparison.parse(text))
    return breaches


def _missed_scores(scorecard: Scorecard, thresholds: Thresholds) -> list[Breach]:
    held = {} if thresholds.overall is None else {"overall": (scorecard.overall.score, thresholds.overall)}
    scores = {category.id: category.score for category in scorecard.categories}
    held |= {f"category {name}": (scores.get(name), text) for name, text in thresholds.categories.items()}
    return [
        Breach(name, "nothing" if score is None else f"{score:.6g}", text)
        for name, (score, text) in held.items()
        if not Comparison.parse(text).holds(score)
    ]


def _missed_status(criterion_id: str, row: Row | None, least: Status) -> list[Breach]:
    enough = (Status.GREEN,) if least is Status.GREEN else (Status.GREEN, Status.YELLOW)
    if row is not None and row.status in enough:
        return []
    measured = f"{row.status.value} ({_short(row.reason)})" if row else "no row"
    return [Breach(criterion_id, measured, " or ".join(enough), row=criterion_id)]


def _missed_figure(scorecard: Scorecard, reference: str, threshold: Comparison) -> list[Breach]:
    criterion_id, _, name = reference.partition("/")
    row = scorecard.row(criterion_id)
    measured = _measured(scorecard, row, name) if row else []
    if not measured:
        why = f" ({_short(row.reason)})" if row and row.status is Status.GREY else ""
        return [Breach(reference, f"nothing{why}", threshold.text)]
    worst = min(measured, key=threshold.margin)
    return [] if all(map(threshold.holds, measured)) else [Breach(reference, f"{worst:.6g}", threshold.text)]


def _measured(scorecard: Scorecard, row: Row, name: str) -> list[float]:
    """Every measurement of a figure; for one judged on its interval both ends, NaN where there is none."""
    on_interval = {figure.name for figure in row.figures if figure.judged_on == "interval"}
    values: list[float] = []
    for figure in (check.figures[name] for check in scorecard.checks_of(row) if name in check.figures):
        values += (figure.interval or (math.nan,)) if name in on_interval else (figure.value,)
    return values
