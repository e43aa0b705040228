"""Hand-made rulebooks, runs and scorecards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.criteria import Rulebook, parse_rulebook
from harness.environment import Commit, Environment
from harness.evidence import CheckRecord, DeselectedCheck, Figure, Run, RunEnd, RunStart, SubjectInfo


def criterion(criterion_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": criterion_id,
        "category": "parts",
        "title": criterion_id.title(),
        "claim": "claimed",
        "explanation": "measured so",
        "baseline": "GREEN",
        "baseline_value": "100%",
    } | changes


def rulebook_data(*criteria: dict[str, Any]) -> dict[str, Any]:
    return {
        "scoring": {
            "credit": {"GREEN": 1.0, "YELLOW": 0.5, "RED": 0.0, "GREY": 0.0},
            "green_from": 0.9,
            "yellow_from": 0.7,
        },
        "baseline": {
            "title": "An audit",
            "date": "2025-11-27",
            "project": "A project",
            "core_features_claimed": 3,
            "lines_of_code": {"a.py": 10, "b.py": 20},
            "lines_of_code_range": [20, 40],
            "path_to_100_percent": {"validation": 100},
            "weeks_to_production": [1, 2],
        },
        "categories": {"parts": "Parts", "scores": "Scores"},
        "criterion": list(criteria),
    }


def rulebook(*criteria: dict[str, Any]) -> Rulebook:
    return parse_rulebook(rulebook_data(*criteria), "made-up.toml")


def check(
    nodeid: str, *criteria: str, outcome: Any = "passed", message: str = "", figures: dict[str, Figure] | None = None
) -> CheckRecord:
    return CheckRecord(
        nodeid=nodeid,
        criteria=criteria,
        outcome=outcome,
        message=message,
        figures=figures or {},
        command=f"pytest {nodeid}",
        duration=0.25,
    )


def figure(value: float, low: float | None = None, high: float | None = None, unit: str = "") -> Figure:
    interval = None if low is None or high is None else (low, high)
    return Figure(value=value, interval=interval, unit=unit)


ENVIRONMENT = Environment(
    python="3.11.0", platform="Linux", machine="x86_64", cpu="a processor", cores=2, libraries={}, threads={}
)


def start(records: Sequence[CheckRecord] = (), **changes: Any) -> RunStart:
    fields: dict[str, Any] = {
        "subject": SubjectInfo(name="made-up", version="1.0", spec="made_up.py:Subject"),
        "profile": "quick",
        "models": ("tiny",),
        "seed": 0,
        "only": (),
        "environment": ENVIRONMENT,
        "commit": Commit(id="0123456789abcdef", dirty=False),
        "selected": tuple(record.nodeid for record in records),
        "deselected": (),
        "collection_errors": (),
        "started": "2026-01-02T03:04:05+00:00",
    }
    return RunStart(**(fields | changes))


def run(*records: CheckRecord, deselected: Sequence[DeselectedCheck] = (), **changes: Any) -> Run:
    end = RunEnd(exit_status=0, finished="2026-01-02T03:05:05+00:00", duration=60.0)
    return Run(start=start(records, deselected=tuple(deselected), **changes), records=records, end=end)


def deselected(nodeid: str, *criteria: str) -> DeselectedCheck:
    return DeselectedCheck(nodeid=nodeid, criteria=criteria, profile="full")
