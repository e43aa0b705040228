from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.criteria import Status, load_rulebook
from harness.errors import AuditError
from harness.evidence import CheckRecord, DeselectedCheck, Run
from harness.expectations import Entry, Expectations
from harness.gate import Judgement, Thresholds, check, check_file, load_thresholds
from harness.scorecard import SCHEMA_VERSION, Scorecard, build, parse, to_json
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


# --------------------------------------------------------------------------- thresholds


def test_a_scorecard_that_holds_every_threshold_has_no_breach() -> None:
    held = {
        "overall": ">= 1.0",
        "max_red": 0,
        "must_be_green": ["1.a", "0.mean"],
        "figures": {"1.a/ratio": ">= 9.0", "1.a/bits": "<= 1.6", "1.c/speed": ">= 2.1"},
    }
    assert breaches(scorecard(), **held) == []


@pytest.mark.parametrize(
    ("thresholds", "breach"),
    [
        ({"overall": "> 1.0"}, "overall: measured 1, threshold > 1.0"),
        ({"figures": {"1.a/ratio": ">= 9.01"}}, "1.a/ratio: measured 9, threshold >= 9.01"),
        ({"figures": {"1.a/bits": "<= 1.59"}}, "1.a/bits: measured 1.6, threshold <= 1.59"),
        ({"figures": {"1.c/speed": ">= 2.2"}}, "1.c/speed: measured 2.1, threshold >= 2.2"),
        ({"figures": {"1.a/absent": ">= 0"}}, "1.a/absent: measured nothing, threshold >= 0"),
        ({"figures": {"9.z/ratio": ">= 0"}}, "9.z/ratio: measured nothing, threshold >= 0"),
        ({"must_be_green": ["9.z"]}, "9.z: measured no row, threshold GREEN"),
    ],
)
def test_a_threshold_tightened_past_the_measured_value_is_named(thresholds: dict[str, Any], breach: str) -> None:
    assert breaches(scorecard(), **thresholds) == [breach]


@pytest.mark.parametrize(
    ("thresholds", "breach"),
    [
        ({"categories": {"parts": ">= 0.834"}}, "category parts: measured 0.833333, threshold >= 0.834"),
        ({"categories": {"scores": ">= 0"}}, "category scores: measured nothing, threshold >= 0"),
        ({"categories": {"others": ">= 0"}}, "category others: measured nothing, threshold >= 0"),
        (
            {"criteria": {"1.a": "GREEN", "1.b": "YELLOW"}},
            "1.a: measured YELLOW (ratio 7, target >= 8, tolerance >= 6), threshold GREEN",
        ),
    ],
)
def test_categories_and_criteria_have_thresholds_of_their_own(thresholds: dict[str, Any], breach: str) -> None:
    card = scorecard(*records(ratio=7.0))
    assert breaches(card, categories={"parts": ">= 0.8"}, criteria={"1.*": "YELLOW"}) == []
    assert breaches(card, **thresholds) == [breach]


def test_the_stricter_of_two_thresholds_of_a_row_counts_once() -> None:
    found = breaches(scorecard(*records(ratio=1.0)), must_be_green=["1.a"], criteria={"1.*": "YELLOW"})
    assert [each.partition(" (")[0] for each in found] == ["1.a: measured RED"]
    (found,) = breaches(scorecard(*records(ratio=1.0)), criteria={"1.*": "YELLOW"})
    assert found.endswith("threshold GREEN or YELLOW")


# A boundary value meets what includes it, in targets, tolerances and thresholds alike.
@pytest.mark.parametrize(
    ("ratio", "status"),
    [(8.0, "GREEN"), (math.nextafter(8.0, 0.0), "YELLOW"), (6.0, "YELLOW"), (math.nextafter(6.0, 0.0), "RED")],
)
def test_a_value_exactly_at_a_target_or_a_tolerance_meets_it(ratio: float, status: str) -> None:
    assert breaches(scorecard(*records(ratio=ratio)), criteria={"1.a": "YELLOW"}) == [] or status == "RED"
    assert breaches(scorecard(*records(ratio=ratio)), must_be_green=["1.a"]) == [] or status != "GREEN"
    row = scorecard(*records(ratio=ratio)).row("1.a")
    assert row is not None
    assert row.status == status


def test_a_figure_that_was_not_measured_says_why() -> None:
    card = scorecard(made_up.check("a", "1.a", outcome="skipped", message="run the tests first"))
    (found,) = breaches(card, figures={"1.a/ratio": ">= 1"})
    assert found.startswith("1.a/ratio: measured nothing (1 of 1 checks were skipped: run the tests first)")


def test_rows_that_must_be_green_may_not_be_anything_else() -> None:
    card = scorecard(*records(ratio=7.0)[:1], made_up.check("b", "1.b", outcome="failed", message="no"))
    found = breaches(card, must_be_green=["1.a", "1.b", "1.c"])
    assert found == [
        "1.a: measured YELLOW (ratio 7, target >= 8, tolerance >= 6), threshold GREEN",
        "1.b: measured RED (1 failed of 1 checks: b: no), threshold GREEN",
        "1.c: measured GREY (no check measures this), threshold GREEN",
    ]


def test_red_rows_are_counted() -> None:
    card = scorecard(made_up.check("b", "1.b", outcome="failed"), *records(low=1.0)[::2])
    assert breaches(card, max_red=3) == []  # the two and the mean that falls with them
    assert breaches(card, max_red=2) == ["RED rows: measured 3, threshold <= 2"]


def test_the_worst_of_several_measurements_counts() -> None:
    second = made_up.check("d", "1.a", figures={"ratio": figure(8.5)})
    assert breaches(scorecard(*records(), second), figures={"1.a/ratio": ">= 8.6"}) == [
        "1.a/ratio: measured 8.5, threshold >= 8.6"
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("threshold", [">= 0", "<= 0", "within -9..9"])
def test_a_figure_that_is_not_finite_breaches_whatever_the_threshold(value: float, threshold: str) -> None:
    found = breaches(scorecard(*records(ratio=value)), figures={"1.a/ratio": threshold})
    assert f"1.a ratio: measured {value} in a, threshold a finite number" in found
    assert f"1.a/ratio: measured {value}, threshold {threshold}" in found


def test_a_speed_without_an_interval_holds_no_threshold() -> None:
    card = scorecard(*records()[:2], made_up.check("c", "1.c", figures={"speed": figure(9.0)}))
    assert breaches(card, figures={"1.c/speed": ">= 1"}) == ["1.c/speed: measured nan, threshold >= 1"]


# --------------------------------------------------------------------------- runs and scorecards that do not count


def test_an_incomplete_run_breaches() -> None:
    start = made_up.start(records(), selected=("a", "b", "c", "d"))
    found = breaches(build(Run(start=start, records=records(), end=None), RULES))
    assert found == [
        "run: measured 1 of 4 checks left no record, the first d, threshold a complete run",
        "run: measured the run was killed before it ended, threshold a complete run",
    ]


def test_a_run_that_was_restricted_breaches() -> None:
    assert breaches(scorecard(only=("1.a",))) == ["run: measured restricted to 1.a, threshold a run of every check"]


def test_a_scorecard_that_was_not_touched_breaches_nothing(tmp_path: Path) -> None:
    assert edited(tmp_path, lambda _: None) == []
    left_out = DeselectedCheck(nodeid="z", criteria=("1.b",), profile="full")
    assert edited(tmp_path, lambda _: None, scorecard(deselected=[left_out], commit=None)) == []


def test_an_edited_status_breaches(tmp_path: Path) -> None:
    card = scorecard(*records(ratio=1.0))
    found = edited(tmp_path, lambda data: row(data, "1.a").update(status="GREEN"), card)
    assert found == ["1.a status: measured GREEN, threshold RED (what the evidence gives)"]


def test_an_edited_score_figure_or_target_breaches(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        row(data, "0.mean")["score"] = 0.5
        row(data, "1.a")["figures"][0].update(target=">= 1")
        row(data, "1.b")["weight"] = 0.0
        data["overall"]["score"] = 0.99
        data["categories"][0]["credit"] = 7.0
        data["scoring"]["green_from"] = 0.1
        data["complete"] = False

    named = [each.partition(":")[0] for each in edited(tmp_path, edit)]
    assert named == ["0.mean score", "1.a figures", "1.b weight", "overall score", "category parts credit", "complete",
                     "scoring"]  # fmt: skip


def test_edited_evidence_changes_the_verdict(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["checks"][0]["figures"]["ratio"]["value"] = "NaN"

    found = edited(tmp_path, edit)
    assert "1.a status: measured GREEN, threshold RED (what the evidence gives)" in found
    assert "1.a ratio: measured nan in a, threshold a finite number" in found


def test_missing_unknown_and_repeated_rows_breach(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["criteria"] = [each for each in data["criteria"] if each["id"] not in ("1.b", "1.c")]
        data["criteria"].append(row(data, "1.a") | {"id": "9.z"})
        data["criteria"].append(row(data, "1.a"))

    assert edited(tmp_path, edit) == [
        "1.b: measured missing from the scorecard, threshold every row present",
        "1.c: measured missing from the scorecard, threshold every row present",
        "9.z: measured unknown row, threshold rows of the rulebook",
        "1.a: measured repeated row, threshold every row once",
    ]


def test_missing_and_unknown_categories_breach(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["categories"][0]["id"] = "other"

    assert edited(tmp_path, edit) == [
        "category other: measured missing or unknown, threshold the categories of the rulebook",
        "category parts: measured missing or unknown, threshold the categories of the rulebook",
    ]


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda data: data.update(schema_version=0), "has schema version 0, not 2"),
        (lambda data: data.pop("schema_version"), "has schema version None"),
        (
            lambda data: data.update(schema_version=SCHEMA_VERSION - 1),
            "has schema version 1, not 2; run the audit again",
        ),
        (lambda data: data.update(schema_version=SCHEMA_VERSION + 1), "has schema version 3, not 2"),
        (lambda data: data.update(schema_version=True), "has schema version True, not 2"),
        (lambda data: data.update(schema_version="2"), "has schema version '2', not 2"),
        (lambda data: data.pop("checks"), "is no scorecard: checks"),
        (lambda data: row(data, "1.a").update(status="BLUE"), "is no scorecard: criteria.1.status"),
    ],
)
def test_another_schema_or_a_damaged_scorecard_breaches(tmp_path: Path, edit: Edit, fault: str) -> None:
    (found,) = edited(tmp_path, edit)
    assert found.startswith("scorecard: measured ")
    assert fault in found


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"schema_version": 1', "\x00"])
def test_what_is_not_json_breaches(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scorecard.json"
    path.write_text(text)
    assert len(check_file(path, NO_THRESHOLDS, RULES).breaches) == 1


def test_a_missing_scorecard_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"cannot read the scorecard .*run the audit first"):
        check_file(tmp_path / "absent.json", NO_THRESHOLDS, RULES)


# --------------------------------------------------------------------------- regressions, expected failures


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


# --------------------------------------------------------------------------- reading thresholds


def pyproject(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    return path


def test_thresholds_are_read_from_pyproject(tmp_path: Path) -> None:
    path = pyproject(
        tmp_path,
        """
        [tool.bitnet-audit.gate]
        overall = " >=  0.5 "
        max_red = 3
        must_be_green = ["1.b"]
        figures = { "1.a/ratio" = ">= 8" }
        categories = { parts = ">= 0.5" }
        criteria = { "1.*" = "YELLOW" }
        slack = 0.01
        expected_failures = "known.txt"
        against = "reports/old.json"
        """,
    )
    assert load_thresholds(path, RULES) == Thresholds(
        overall=">=  0.5",
        max_red=3,
        must_be_green=("1.b",),
        figures={"1.a/ratio": ">= 8"},
        categories={"parts": ">= 0.5"},
        criteria={"1.*": Status.YELLOW},
        slack=0.01,
        expected_failures=tmp_path / "known.txt",
        against=tmp_path / "reports" / "old.json",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"has no table \[tool\.bitnet-audit\.gate\]"),
        ("not toml", "is not TOML"),
        ('[tool.bitnet-audit.gate]\noverall = "lots"', "overall.*cannot read the comparison 'lots'"),
        ("[tool.bitnet-audit.gate]\nmax_red = -1", "max_red"),
        ("[tool.bitnet-audit.gate]\nmax_reds = 1", "max_reds"),
        ('[tool.bitnet-audit.gate]\nmust_be_green = ["9.z"]', "unknown criterion '9.z'"),
        ('[tool.bitnet-audit.gate.figures]\n"9.z/x" = ">= 1"', "unknown criterion '9.z'"),
        ('[tool.bitnet-audit.gate.figures]\n"1.a" = ">= 1"', "'1.a' names no figure"),
        ('[tool.bitnet-audit.gate.criteria]\n"9.*" = "GREEN"', r"unknown criterion '9\.\*'"),
        ('[tool.bitnet-audit.gate.criteria]\n"1.a" = "RED"', "criteria.1.a"),
        ('[tool.bitnet-audit.gate.categories]\nothers = ">= 1"', "unknown category 'others'"),
        ('[tool.bitnet-audit.gate.categories]\nparts = "much"', "categories.*cannot read the comparison 'much'"),
        ("[tool.bitnet-audit.gate]\nslack = -0.1", "slack"),
    ],
)
def test_faulty_thresholds_are_refused_in_one_sentence(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(AuditError, match=fault) as caught:
        load_thresholds(pyproject(tmp_path, text), RULES)
    assert "pyproject.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_pyproject_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="--pyproject"):
        load_thresholds(tmp_path / "absent.toml", RULES)


def test_the_project_s_own_thresholds_are_readable_and_not_empty() -> None:
    own = load_thresholds(Path(__file__).parents[2] / "pyproject.toml")
    assert own.must_be_green
    assert set(own.must_be_green) <= {each.id for each in load_rulebook().criteria}
