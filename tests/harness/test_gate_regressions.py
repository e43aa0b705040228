"""The gate against a stored scorecard, and failures that are expected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.errors import AuditError
from harness.expectations import Entry, Expectations
from harness.gate import Thresholds, check_file
from harness.scorecard import parse, to_json
from tests.harness import made_up
from tests.harness.gate_scorecards import RULES, edited, judged, records, row, scorecard
from tests.harness.made_up import figure


def test_nothing_may_fall_behind_a_stored_scorecard() -> None:
    stored = scorecard()
    assert judged(stored, stored).held
    fallen = judged(scorecard(*records(ratio=7.0, speed=2.0, low=1.9)), stored)
    assert [str(each) for each in fallen.breaches] == [
        "0.mean: measured RED, threshold no regression from GREEN",
        "1.a: measured YELLOW, threshold no regression from GREEN",
        "1.c: measured RED, threshold no regression from GREEN",
        "1.a/ratio: measured 7, threshold no regression from 9",
    ]  # the intervals of the speed, 1.9 to 3 and 2.1 to 3, overlap
    assert len(judged(scorecard(records()[0]), stored).breaches) == 3  # two rows are no longer measured, and the mean
    assert not judged(scorecard(*records(ratio=8.9)), stored).held
    assert judged(scorecard(*records(ratio=8.9)), stored, slack=0.02).held


def test_a_file_is_held_to_thresholds_expectations_and_a_stored_scorecard_alike(tmp_path: Path) -> None:
    path = tmp_path / "scorecard.json"
    path.write_text(to_json(scorecard(*records(ratio=1.0))), encoding="utf-8")
    limits, expected = Thresholds(must_be_green=("1.a", "0.mean")), Expectations((Entry("1.a", "known", "here"),))
    found = check_file(path, limits, RULES, expected, scorecard())
    assert [(each.criterion, each.threshold) for each in found.breaches] == [
        ("0.mean", "GREEN"),
        ("0.mean", "no regression from GREEN"),
    ]
    assert {each.criterion for each, _ in found.expected} == {"1.a", "1.a/ratio"}
    assert check_file(path, limits, RULES, expected).expected == found.expected[:1]


def test_figures_beyond_their_intervals_are_told_with_them() -> None:
    better = scorecard(
        *records(speed=4.0, low=3.5)[:2], made_up.check("c", "1.c", figures={"speed": figure(4, 3.5, 5)})
    )
    (found,) = judged(scorecard(), better).breaches
    assert str(found) == "1.c/speed: measured 2.5 (2.1 to 3), threshold no regression from 4 (3.5 to 5)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"profile": "full"}, "profile full, not quick"), ({"models": ("other",)}, "models other, not tiny")],
)
def test_a_stored_scorecard_of_something_else_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(AuditError, match=f"the stored scorecard is of the {words}"):
        judged(scorecard(), scorecard(**changes))


def test_a_stored_scorecard_of_another_subject_is_refused() -> None:
    other = scorecard()
    other = other.model_copy(update={"subject": other.subject.model_copy(update={"name": "other"})})
    with pytest.raises(AuditError, match="the stored scorecard is of the subject other, not made-up"):
        judged(scorecard(), other)


def test_a_stored_scorecard_may_be_of_an_older_version_and_is_judged_by_its_evidence() -> None:
    data = json.loads(to_json(scorecard(*records(ratio=1.0)))) | {"schema_version": 1}
    del data["rules"]
    row(data, "1.a").update(status="GREEN")
    assert judged(scorecard(*records(ratio=7.0)), parse(data, "old.json")).held


def test_expected_failures_take_away_breaches_and_nothing_else() -> None:
    card = scorecard(*records(ratio=1.0))
    limits: dict[str, Any] = {"must_be_green": ["1.a", "1.b"], "max_red": 0, "figures": {"1.a/ratio": ">= 8"}}
    unexpected = judged(card, **limits)
    assert [each.criterion for each in unexpected.breaches] == ["RED rows", "1.a", "1.a/ratio"]
    found = judged(card, expected="1.a", **limits)
    assert [each.criterion for each in found.breaches] == ["RED rows", "1.a/ratio"]  # the mean is RED, too
    assert str(found.breaches[0]) == "RED rows: measured 1 beside 1 that were expected, threshold <= 0"
    assert [(each.criterion, reason) for each, reason in found.expected] == [("1.a", "known")]
    assert card.row("1.a").status == "RED"  # type: ignore[union-attr]
    assert judged(card, scorecard(), "1.a 0.mean", must_be_green=["1.a"]).held


def test_what_was_not_measured_is_not_finite_or_was_edited_is_never_expected(tmp_path: Path) -> None:
    assert not judged(scorecard(*records()[:2]), expected="1.c", must_be_green=["1.c"]).held
    found = judged(scorecard(*records(ratio=math.nan)), expected="*", must_be_green=["1.a"])
    assert [str(each) for each in found.breaches] == ["1.a ratio: measured nan in a, threshold a finite number"]
    data = json.loads(to_json(scorecard(*records(ratio=1.0))))
    row(data, "1.a").update(status="GREEN")
    assert [each.criterion for each in judged(parse(data, "x"), expected="*").breaches] == ["1.a status"]


def test_expectations_that_fail_to_fail_are_warned_of() -> None:
    assert judged(scorecard(), expected="1.b 9.z").warnings == (
        "here: 1.b is expected to fail, but is GREEN; remove the entry",
        "here: '9.z' matches nothing; correct or remove it",
    )


def test_a_scorecard_of_other_rules_says_so(tmp_path: Path) -> None:
    (found,) = edited(tmp_path, lambda data: data.update(rules="0" * 12))
    assert found == f"rules: measured {'0' * 12}, threshold {RULES.digest} (what the evidence gives)"
