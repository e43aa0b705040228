"""Small scorecards to hold to the gate, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.evidence import CheckRecord
from harness.expectations import Entry, Expectations
from harness.gate import Judgement, Thresholds, check, check_file
from harness.scorecard import Scorecard, build, to_json
from tests.harness import made_up
from tests.harness.made_up import criterion, figure, rulebook, run

RULES = rulebook(
    criterion("0.mean", category="scores", weight=0.0, derive={"mean_of": ["1.*"]}),
    criterion("1.a", figures={"ratio": {"target": ">= 8", "tolerance": ">= 6"}}),
    criterion("1.b"),
    criterion("1.c", figures={"speed": {"target": ">= 2", "judged_on": "interval"}}),
)
NO_THRESHOLDS = Thresholds()
Edit = Callable[[dict[str, Any]], None]


def records(ratio: float = 9.0, speed: float = 2.5, low: float = 2.1) -> tuple[CheckRecord, ...]:
    return (
        made_up.check("a", "1.a", figures={"ratio": figure(ratio), "bits": figure(1.6)}),
        made_up.check("b", "1.b"),
        made_up.check("c", "1.c", figures={"speed": figure(speed, low, 3.0)}),
    )


def scorecard(*given: CheckRecord, **changes: Any) -> Scorecard:
    return build(run(*(given or records()), **changes), RULES)


def breaches(card: Scorecard, **thresholds: Any) -> list[str]:
    return [str(each) for each in check(card, Thresholds(**thresholds), RULES).breaches]


def judged(card: Scorecard, against: Scorecard | None = None, expected: str = "", **thresholds: Any) -> Judgement:
    entries = (Entry(each, "known", "here") for each in expected.split())
    return check(card, Thresholds(**thresholds), RULES, Expectations(tuple(entries)), against)


def edited(tmp_path: Path, edit: Edit, card: Scorecard | None = None) -> list[str]:
    """The breaches of a scorecard file that was changed by hand."""
    data = json.loads(to_json(card or scorecard()))
    edit(data)
    path = tmp_path / "scorecard.json"
    path.write_text(json.dumps(data))
    return [str(each) for each in check_file(path, NO_THRESHOLDS, RULES).breaches]


def row(data: dict[str, Any], criterion_id: str) -> dict[str, Any]:
    return next(each for each in data["criteria"] if each["id"] == criterion_id)
