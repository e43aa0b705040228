"""The status rule: from the evidence for one criterion to GREEN, YELLOW, RED or GREY, with the reason in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.comparison import Comparison
from harness.criteria import Criterion, FigureRule, Status
from harness.evidence import CheckRecord, DeselectedCheck, Figure, Record


class RowFigure(Record):
    """One measurement of a declared figure, with what it is held to and what that makes it."""

    name: str
    value: float
    unit: str
    interval: tuple[float, float] | None
    target: str
    tolerance: str | None
    judged_on: str
    timing: bool
    status: Status
    nodeid: str


@dataclass(frozen=True)
class Verdict:
    """The status of a measured row, why, and the measurements that it rests on (the worst of each figure first)."""

    status: Status
    reason: str
    figures: tuple[RowFigure, ...] = ()
    missing_figures: tuple[str, ...] = ()


def judge(criterion: Criterion, checks: Sequence[CheckRecord], deselected: Sequence[DeselectedCheck]) -> Verdict:
    """Apply the status rule to one criterion.

    RED: a check failed or broke, a figure is NaN or infinite or misses target and tolerance, or a declared figure is
    missing although every check ran. GREY: no check ran, or one was skipped. YELLOW: the worst figure is short of its
    target but within its tolerance. GREEN: every check of this profile ran and passed, and every target is met.
    Checks that do not apply to the subject leave the verdict to the others; when none is left the row is GREY.
    """
    figures = tuple(_measurements(criterion, checks))
    missing = tuple(name for name in criterion.figures if name not in {figure.name for figure in figures})
    status, reason = _status(checks, deselected, figures, missing)
    return Verdict(status, reason, figures, missing)


def _status(
    checks: Sequence[CheckRecord],
    deselected: Sequence[DeselectedCheck],
    figures: Sequence[RowFigure],
    missing: Sequence[str],
) -> tuple[Status, str]:
    by_outcome = {outcome: [each for each in checks if each.outcome == outcome] for outcome in _OUTCOMES}
    broken, failed, skipped = by_outcome["error"], by_outcome["failed"], by_outcome["skipped"]
    applicable = len(checks) - len(by_outcome["not_applicable"])
    if broken or failed:
        return Status.RED, _failure(failed, broken, len(checks))
    if not_finite := _not_finite(checks):
        return Status.RED, f"not a finite number: {', '.join(not_finite)}"
    if missed := [figure for figure in figures if figure.status is Status.RED]:
        return Status.RED, "; ".join(map(describe, missed))
    if not checks:
        return Status.GREY, _unmeasured(deselected)
    if not applicable:
        return Status.GREY, f"not applicable: {checks[0].message}"
    if skipped:
        return Status.GREY, f"{len(skipped)} of {len(checks)} checks were skipped: {_first_line(skipped[0].message)}"
    if missing and (deselected or applicable < len(checks)):
        why = "are left to the full profile" if deselected else "do not apply to this subject"
        return (
            Status.GREY,
            f"{', '.join(missing)} not measured: {len(deselected) or len(checks) - applicable} checks {why}",
        )
    if missing:
        return Status.RED, f"no check recorded {', '.join(missing)}"
    short = [figure for figure in figures if figure.status is Status.YELLOW]
    if short:
        return Status.YELLOW, "; ".join(map(describe, short))
    return Status.GREEN, _success(applicable, len(checks), len(deselected))


_OUTCOMES = ("passed", "failed", "error", "skipped", "not_applicable")


def _measurements(criterion: Criterion, checks: Sequence[CheckRecord]) -> list[RowFigure]:
    """Every measurement of every declared figure: figures as declared, the worst measurement of each first."""
    found = []
    for name, rule in criterion.figures.items():
        measured = [(check.figures[name], check.nodeid) for check in checks if name in check.figures]
        measured.sort(key=lambda pair: (_worst_margin(rule, pair[0]), pair[1]))
        found += [_row_figure(name, rule, figure, nodeid) for figure, nodeid in measured]
    return found


def _row_figure(name: str, rule: FigureRule, figure: Figure, nodeid: str) -> RowFigure:
    return RowFigure(
        name=name,
        value=figure.value,
        unit=figure.unit or rule.unit,
        interval=figure.interval,
        target=rule.target,
        tolerance=rule.tolerance,
        judged_on=rule.judged_on,
        timing=figure.timing,
        status=_figure_status(rule, figure),
        nodeid=nodeid,
    )


def _figure_status(rule: FigureRule, figure: Figure) -> Status:
    if not figure.finite:
        return Status.RED
    judged = _judged_values(rule, figure)
    if judged and all(map(Comparison.parse(rule.target).holds, judged)):
        return Status.GREEN
    if judged and rule.tolerance and all(map(Comparison.parse(rule.tolerance).holds, judged)):
        return Status.YELLOW
    return Status.RED


def _judged_values(rule: FigureRule, figure: Figure) -> tuple[float, ...]:
    """The numbers that have to meet the target; none for an interval that was not measured."""
    return (figure.value,) if rule.judged_on == "value" else (figure.interval or ())


def _worst_margin(rule: FigureRule, figure: Figure) -> float:
    target = Comparison.parse(rule.target)
    return min((target.margin(value) for value in _judged_values(rule, figure)), default=-math.inf)


def _not_finite(checks: Sequence[CheckRecord]) -> list[str]:
    return [f"{name} in {check.nodeid}" for check in checks for name, each in check.figures.items() if not each.finite]


# --------------------------------------------------------------------------- words


def describe(figure: RowFigure) -> str:
    """One measurement in words, such as "ratio_over_target 0.82 x, target >= 1.0"."""
    unit = f" {figure.unit}" if figure.unit else ""
    if figure.judged_on == "interval":
        ends = (
            "no interval"
            if figure.interval is None
            else f"interval {figure.interval[0]:.4g} to {figure.interval[1]:.4g}"
        )
        unit += f" ({ends})"
    tolerance = f", tolerance {figure.tolerance}" if figure.tolerance else ""
    return f"{figure.name} {figure.value:.6g}{unit}, target {figure.target}{tolerance}"


def _failure(failed: Sequence[CheckRecord], broken: Sequence[CheckRecord], total: int) -> str:
    counts = [f"{len(each)} {word}" for each, word in ((failed, "failed"), (broken, "broke")) if each]
    first = [*failed, *broken][0]
    return f"{' and '.join(counts)} of {total} checks: {first.nodeid}: {_first_line(first.message)}"


def _unmeasured(deselected: Sequence[DeselectedCheck]) -> str:
    if deselected:
        return f"measured in the full profile only ({len(deselected)} checks)"
    return "no check measures this"


def _success(applicable: int, total: int, deselected: int) -> str:
    words = f"{applicable} checks passed" if applicable != 1 else "1 check passed"
    if applicable < total:
        words += f", {total - applicable} not applicable"
    return words + (f", {deselected} more in the full profile" if deselected else "")


def _first_line(message: str) -> str:
    return message.splitlines()[0] if message else "no message"
