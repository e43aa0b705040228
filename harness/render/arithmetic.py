"""The sums behind every score, then and now: the forensic audit's statuses and this run's, by the same rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.criteria import Scoring, Status
from harness.render.numbers import percent
from harness.scorecard import Row, Scorecard


@dataclass(frozen=True)
class Share:
    """Credit earned out of the weight that could be earned; `absent` is written where there is no share to give."""

    credit: float
    weight: float
    measured: bool
    absent: str

    @property
    def value(self) -> float | None:
        """The share in 0..1, or None where there is nothing to divide by or nothing was measured."""
        return self.credit / self.weight if self.weight and self.measured else None

    @property
    def text(self) -> str:
        """The share in percent, or in words why there is none."""
        return self.absent if self.value is None else percent(self.value)

    @property
    def sum(self) -> str:
        """The division as it is done."""
        return f"{self.credit:g} / {self.weight:g}" if self.weight else "no weight"


@dataclass(frozen=True)
class Line:
    """One row's part in a sum; `then` is None for a row that the forensic audit does not have."""

    id: str
    title: str
    weight: str
    then: str | None
    now: str


@dataclass(frozen=True)
class Sum:
    """A table of lines with its totals."""

    title: str
    lines: tuple[Line, ...]
    then: Share
    now: Share


def share_then(rows: Sequence[Row], scoring: Scoring) -> Share:
    """What the forensic audit's own statuses give for rows; rows that it does not have are left out."""
    audited = [row for row in rows if row.baseline is not Status.GREY]
    return Share(
        credit=math.fsum(row.weight * scoring.credit[row.baseline] for row in audited),
        weight=_weight(audited),
        measured=bool(audited),
        absent="not audited" if _weight(rows) else "no weight",
    )


def share_now(rows: Sequence[Row]) -> Share:
    """What this run gives for rows; those not measured stay in the weight with the credit of GREY."""
    return Share(
        credit=math.fsum(row.weight * row.credit for row in rows),
        weight=_weight(rows),
        measured=any(row.status is not Status.GREY for row in rows),
        absent="not measured" if _weight(rows) else "no weight",
    )


def _weight(rows: Sequence[Row]) -> float:
    return math.fsum(row.weight for row in rows)


def sum_of(title: str, rows: Sequence[Row], scoring: Scoring) -> Sum:
    """The arithmetic of a group of rows; rows without weight take no part in it."""
    weighted = [row for row in rows if row.weight]
    lines = tuple(
        Line(
            id=row.id,
            title=row.title,
            weight=f"{row.weight:g}",
            then=None if row.baseline is Status.GREY else _product(row.weight, scoring.credit[row.baseline]),
            now=_product(row.weight, row.credit),
        )
        for row in weighted
    )
    return Sum(title, lines, share_then(weighted, scoring), share_now(weighted))


def _product(weight: float, credit: float) -> str:
    return f"{weight:g} x {credit:g} = {weight * credit:g}"


def published_overall(scorecard: Scorecard) -> str:
    """The overall score as the forensic audit published it."""
    row = scorecard.row("0.overall")
    score = as_percent(row.baseline_value) if row else None
    return "not published" if score is None else percent(score / 100)


def published_means(scorecard: Scorecard) -> tuple[float, ...]:
    """The means in percent of the forensic audit's own score tables (sections 0 and 7), without their last rows."""
    means = []
    for section in ("0", "7"):
        scores = [
            score
            for row in scorecard.criteria
            if row.section == section and not row.id.endswith(".overall") and (score := as_percent(row.baseline_value))
        ]
        if scores:
            means.append(math.fsum(scores) / len(scores))
    return tuple(means)


def as_percent(text: str) -> float | None:
    """The number of a text such as "84.5%", else None."""
    try:
        return float(text.removesuffix("%")) if text.endswith("%") else None
    except ValueError:
        return None


def audit_score_now(row: Row) -> float | None:
    """What a row of the forensic audit's score tables gives now, in percent: its mean credit, or its worst figure."""
    if row.score is not None:
        return 100 * row.score
    values = [figure.value for figure in row.figures if figure.unit == "%"]
    return min(values, default=None) if all(map(math.isfinite, values)) else None
