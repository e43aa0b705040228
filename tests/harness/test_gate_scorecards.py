"""Runs and scorecards that do not count: incomplete, restricted, edited, damaged or of another version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import AuditError
from harness.evidence import DeselectedCheck, Run
from harness.gate import check_file
from harness.scorecard import SCHEMA_VERSION, build
from tests.harness import made_up
from tests.harness.gate_scorecards import NO_THRESHOLDS, RULES, Edit, breaches, edited, records, row, scorecard


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
    assert found.startswith("scorecard: measured scorecard.json ")
    assert found.endswith(", threshold a readable scorecard of this version")
    assert fault in found


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"schema_version": 1', b"\x00", b"\xff\xfe{}"])
def test_what_is_not_json_breaches(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scorecard.json"
    path.write_bytes(content)
    judgement = check_file(path, NO_THRESHOLDS, RULES)
    assert len(judgement.breaches) == 1
    assert (judgement.held, judgement.expected, judgement.warnings) == (False, (), ())


def test_a_missing_scorecard_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"cannot read the scorecard .*run the audit first"):
        check_file(tmp_path / "absent.json", NO_THRESHOLDS, RULES)


@pytest.mark.parametrize(("told", "shown"), [("x" * 80, "x" * 80), ("x" * 81, "x" * 77 + "...")])
def test_long_values_are_shortened(tmp_path: Path, told: str, shown: str) -> None:
    (found,) = edited(tmp_path, lambda data: data.update(rules=told))
    assert found.startswith(f"rules: measured {shown}, threshold ")
