"""What a diff and the gate found, as lines for a terminal and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from harness.diff import Contradiction, Diff, FigureChange
from harness.gate import Judgement


def diff_lines(found: Diff) -> Iterator[str]:
    """Scores, statuses and figures that changed, what contradicts its evidence, and how many regressions there are."""
    yield f"before: {found.before}"
    yield f"after:  {found.after}"
    yield f"overall: {_percent(found.overall_before)} -> {_percent(found.overall_after)}"
    for row in found.statuses:
        yield f"{row.id}: {row.before or 'absent'} -> {row.after or 'absent'} ({row.direction})"
    yield from map(_figure, found.figures)
    if not found.statuses and not found.figures:
        yield "no status and no figure changed"
    yield from map(_contradiction, found.contradictions)
    regressions = [each.id for each in found.regressions]
    regressions += [f"{each.id}/{each.name}" for each in found.figure_regressions]
    if regressions:
        yield f"regressions: {', '.join(regressions)}"


def diff_json(found: Diff) -> str:
    """The whole diff; `regressions` and `figure_regressions` name what got worse."""
    data = json.loads(found.model_dump_json())
    data["regressions"] = [each.id for each in found.regressions]
    data["figure_regressions"] = [f"{each.id}/{each.name}" for each in found.figure_regressions]
    data["edited"] = [each.id for each in found.edited]
    return json.dumps(data, indent=1)


def judgement_lines(judgement: Judgement) -> Iterator[str]:
    """One line for each breach and each expected failure."""
    yield from map(str, judgement.breaches)
    yield from (f"expected failure: {breach} ({reason})" for breach, reason in judgement.expected)


def judgement_json(judgement: Judgement) -> str:
    """Whether the gate held, with everything that it found."""
    told = {
        "held": judgement.held,
        "breaches": [asdict(breach) for breach in judgement.breaches],
        "expected": [asdict(breach) | {"reason": reason} for breach, reason in judgement.expected],
        "warnings": list(judgement.warnings),
    }
    return json.dumps(told, indent=1)


def _figure(change: FigureChange) -> str:
    unit = f" {change.unit}" if change.unit else ""
    before = _number(change.before) + _ends(change.before_interval)
    after = _number(change.after) + _ends(change.after_interval)
    words = f"{change.direction}, within the intervals" if change.noise else change.direction
    return f"{change.id}/{change.name}: {before} -> {after}{unit} ({words})"


def _contradiction(found: Contradiction) -> str:
    why = "edited" if found.same_rules else "judged by other rules, or edited"
    return f"{found.id}: {found.told} in the scorecard {found.scorecard}, but its evidence gives {found.given} ({why})"


def _percent(score: float | None) -> str:
    return "not measured" if score is None else f"{100 * score:.1f} %"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.6g}"


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.4g}, {interval[1]:.4g}]"
