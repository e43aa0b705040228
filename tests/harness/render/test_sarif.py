from __future__ import annotations

import json
from typing import Any

import pytest

from harness.criteria import Status
from harness.evidence import SubjectInfo
from harness.render.sarif import render_sarif
from harness.scorecard import Scorecard
from tests.harness import made_up
from tests.harness.render import cards


def run_of(card: Scorecard) -> dict[str, Any]:
    """The only run of a log, held to what SARIF 2.1.0 requires of every object in it."""
    log = json.loads(render_sarif(card), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert all(rule[name]["text"] for name in ("shortDescription", "fullDescription", "help"))
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["kind"] == "fail"
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"]
        assert location["physicalLocation"]["region"]["startLine"] >= 1
    for invocation in run["invocations"]:
        assert isinstance(invocation["executionSuccessful"], bool)
    return dict(run)


def results(card: Scorecard) -> dict[str, dict[str, Any]]:
    return {each["ruleId"]: each for each in run_of(card)["results"]}


def place(result: dict[str, Any]) -> tuple[str, int]:
    found = result["locations"][0]["physicalLocation"]
    return found["artifactLocation"]["uri"], found["region"]["startLine"]


def named(spec: str) -> Scorecard:
    return cards.scorecard(subject=SubjectInfo(name="made-up", version="1.0", spec=spec))


def test_every_row_is_a_rule_and_what_is_not_met_a_result() -> None:
    card = cards.scorecard()
    assert [rule["id"] for rule in run_of(card)["tool"]["driver"]["rules"]] == [row.id for row in card.criteria]
    levels = {row.id: row.status for row in card.criteria if row.status in (Status.RED, Status.YELLOW)}
    expected = {name: "error" if status is Status.RED else "warning" for name, status in levels.items()}
    assert {name: result["level"] for name, result in results(card).items()} == expected


def test_a_result_tells_its_reason_figures_command_and_identity() -> None:
    ratio = results(cards.scorecard())["1.1.compression-ratio"]
    assert ratio["message"]["text"].startswith("Compression Ratio is RED: ratio_over_target 0.92 x, target >= 1.0")
    assert ratio["properties"]["figures"] == {"ratio_over_target": "0.92"}
    assert ratio["properties"]["command"].endswith("--only 1.1.compression-ratio")
    assert ratio["partialFingerprints"] == {"criterion/v1": "1.1.compression-ratio"}
    assert results(cards.scorecard())["1.1.sparsity-injection"]["properties"]["figures"] == {"zero_fraction": "nan"}


def test_a_result_lies_in_the_subject_s_file_or_in_the_check_that_fell_short() -> None:
    assert place(results(cards.scorecard())["1.1.ste-gradients"]) == ("made_up.py", 1)
    assert place(results(named("a folder/mine.py:f"))["2.ste"]) == ("a%20folder/mine.py", 1)
    assert place(results(named("/a/mine.py:f"))["2.ste"]) == ("file:///a/mine.py", 1)
    found = results(named("bitnet"))
    assert place(found["1.1.ste-gradients"]) == ("suites/test_ste.py", 1)
    assert place(found["1.1.compression-ratio"]) == ("suites/test_ratio.py", 1)
    assert place(found["0.overall"]) == ("harness/criteria.toml", 1)


def test_the_line_of_the_check_is_kept() -> None:
    card = named("bitnet")
    lines = tuple(check.model_copy(update={"line": 40 + index}) for index, check in enumerate(card.checks))
    card = card.model_copy(update={"checks": lines})
    assert place(results(card)["1.1.ste-gradients"]) == ("suites/test_ste.py", 46)


def test_an_incomplete_run_did_not_succeed() -> None:
    assert run_of(cards.scorecard())["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]
    (invocation,) = run_of(cards.incomplete())["invocations"]
    assert not invocation["executionSuccessful"]
    told = [each["message"]["text"] for each in invocation["toolExecutionNotifications"]]
    assert "the run was killed before it ended" in told
    assert not any("\x1b" in each or "\x00" in each for each in told)


def test_the_run_says_what_it_was_of_and_the_same_scorecard_gives_the_same_text() -> None:
    card = cards.scorecard(environment=made_up.ENVIRONMENT.model_copy(update={"libraries": {"bitnet-audit": "0.1.0"}}))
    run = run_of(card)
    assert run["automationDetails"]["id"] == "bitnet-audit/made-up/quick/"
    assert run["tool"]["driver"]["version"] == "0.1.0"
    assert run["properties"]["commit"] == "0123456789abcdef"
    assert render_sarif(card) == render_sarif(card)
    assert run_of(cards.scorecard(commit=None))["properties"]["commit"] is None
