from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from harness.render.junit import render_junit
from harness.scorecard import Scorecard
from tests.harness.render import cards


def parsed(card: Scorecard) -> dict[str, Element]:
    root = ElementTree.fromstring(render_junit(card).encode())
    return {suite.get("name", "").removeprefix("bitnet-audit "): suite for suite in root}


@pytest.fixture(scope="module")
def suites() -> dict[str, Element]:
    return parsed(cards.scorecard())


def case(suite: Element, name: str) -> Element:
    return next(each for each in suite.iter("testcase") if name in f"{each.get('classname')}::{each.get('name')}")


def properties(element: Element) -> dict[str, str]:
    return {each.get("name", ""): each.get("value", "") for each in element.iterfind("properties/property")}


def test_the_same_scorecard_gives_the_same_xml() -> None:
    text = render_junit(cards.scorecard())
    assert text == render_junit(cards.scorecard())
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n')


def test_every_suite_counts_what_it_holds_and_the_whole_adds_them_up(suites: dict[str, Element]) -> None:
    assert set(suites) == {"run", "checks", "criteria"}
    for suite in suites.values():
        cases = list(suite.iter("testcase"))
        assert suite.get("tests") == str(len(cases))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(attribute) == str(sum(each.find(tag) is not None for each in cases))
    root = ElementTree.fromstring(render_junit(cards.scorecard()).encode())
    assert root.get("tests") == str(sum(int(suite.get("tests", "")) for suite in suites.values()))
    assert len(list(suites["checks"].iter("testcase"))) == len(cards.records())
    assert len(list(suites["criteria"].iter("testcase"))) == len(cards.scorecard().criteria)


def test_outcomes_become_failure_error_and_skipped_with_their_messages(suites: dict[str, Element]) -> None:
    checks = suites["checks"]
    failure = case(checks, "suites.test_ste::test_a").find("failure")
    error = case(checks, "suites.test_ste::test_b").find("error")
    skipped = case(checks, "suites.test_dash::test_a").find("skipped")
    absent = case(checks, "suites.test_reg::test_a").find("skipped")
    assert failure is not None
    assert '<script>alert("x")</script> | `tick`' in failure.get("message", "")
    assert error is not None
    assert (error.get("message"), error.text, error.get("type")) == (
        "RuntimeError: boom",
        "RuntimeError: boom\nsecond line",
        "error",
    )
    assert skipped is not None
    assert absent is not None
    assert (absent.get("message"), absent.get("type")) == ("no registry", "not_applicable")
    assert len(case(checks, "suites.test_pack::test_a")) == 1  # nothing but its properties


def test_figures_notes_and_criteria_are_kept(suites: dict[str, Element]) -> None:
    speed = properties(case(suites["checks"], "suites.test_speed::test_a"))
    assert speed["figure.speedup_ci_low"] == "2.31"
    assert speed["figure.speedup_ci_low.interval95"] == "2.02 2.6"
    assert speed["figure.speedup_ci_low.unit"] == "x"
    assert speed["criterion"] == "1.1.inference-speedup"
    assert speed["command"] == "pytest suites/test_speed.py::test_a"
    assert properties(case(suites["checks"], "suites.test_sparsity"))["figure.zero_fraction"] == "nan"
    assert "all 45 variants" in (case(suites["checks"], "suites.test_notes").findtext("system-out") or "")


def test_rows_fail_when_red_and_are_skipped_when_grey(suites: dict[str, Element]) -> None:
    criteria = suites["criteria"]
    for name, tag, status in (
        ("1.1.ste-gradients", "failure", "RED"),
        ("1.1.fine-tuning", "skipped", "GREY"),
        ("0.test-coverage", None, "YELLOW"),
        ("A.packing-exact", None, "GREEN"),
    ):
        found = case(criteria, f"{name} ")
        assert properties(found)["status"] == status
        assert [each for each in ("failure", "error", "skipped") if found.find(each) is not None] == (
            [tag] if tag else []
        )
    ratio = properties(case(criteria, "1.1.compression-ratio "))
    assert ratio["figure.ratio_over_target.target"] == ">= 1.0"
    assert ratio["status then"] == "GREEN"


def test_an_incomplete_run_is_an_error(suites: dict[str, Element]) -> None:
    assert case(suites["run"], "complete").find("error") is None
    error = case(parsed(cards.incomplete())["run"], "complete").find("error")
    assert error is not None
    assert error.get("message") == "This run is not complete:"
    assert "the run was killed before it ended" in (error.text or "")


def test_the_run_says_with_what_it_was_made(suites: dict[str, Element]) -> None:
    told = properties(suites["run"])
    assert told["Commit"] == "0123456789abcdef"
    assert told["overall score"] == cards.SCORE
    restricted = parsed(cards.scorecard(only=("A.*",)))["run"]
    assert properties(case(restricted, "complete")) == {"restricted to": "A.*"}
