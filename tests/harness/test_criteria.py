from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness.baseline import forensic_baseline
from harness.criteria import Status, load_rulebook, parse_rulebook
from harness.errors import AuditError
from tests.harness.made_up import criterion, rulebook, rulebook_data


def test_every_row_of_the_forensic_audit_is_a_criterion() -> None:
    sections = Counter(each.section for each in load_rulebook().criteria)
    audited = {"0": 6, "1.1": 7, "1.2": 6, "2": 20, "3": 13, "4": 5, "5": 10, "6": 9, "7": 6}
    added = sections.pop("A")
    assert sections == audited
    assert added == sum(each.id.startswith("A.") for each in load_rulebook().criteria) > 0


def test_only_rows_added_by_this_project_lack_a_baseline() -> None:
    without = {each.section for each in load_rulebook().criteria if each.baseline is Status.GREY}
    assert without == {"A"}


def test_every_category_is_used_and_only_what_counts_elsewhere_carries_no_weight() -> None:
    """The published scores are means of other rows; the two rows of declarations share the checks of other rows."""
    rules = load_rulebook()
    assert {each.category for each in rules.criteria} == set(rules.categories)
    weightless = {each.id for each in rules.criteria if each.weight == 0}
    assert weightless == {each.id for each in rules.criteria if each.category == "scores"} | {
        "A.as-declared",
        "A.as-published",
    }


def test_the_readings_quote_what_the_audit_s_own_rows_give() -> None:
    rules = load_rulebook()
    given = {each.name: each.from_rows for each in forensic_baseline(rules).rederived}
    quoted = {
        "0.overall": ("overall, mean of section 0", "overall, mean of section 7"),
        "7.overall": ("overall, mean of section 7",),
        "0.architecture-match": ("architecture match, GREEN rows of 1.1",),
        "0.feature-completion": ("feature completion, boxes ticked",),
        "0.paper-alignment": ("paper alignment, mean match of 1.2",),
    }
    for criterion_id, names in quoted.items():
        found = rules.get(criterion_id)
        assert found is not None
        for name in names:
            assert f"{given[name]:g} %" in (found.reading or "")


def test_patterns_name_criteria_in_the_order_of_the_rulebook() -> None:
    rules = rulebook(criterion("1.b"), criterion("2.a"), criterion("1.a"))
    assert rules.matching(["1.*"]) == ("1.b", "1.a")
    assert rules.matching(["2.a", "1.a", "nothing"]) == ("2.a", "1.a")
    assert rules.get("nothing") is None


def test_the_sources_of_a_derived_row_are_the_rows_that_it_names() -> None:
    rules = rulebook(
        criterion("1.a", figures={"share": {"target": ">= 90"}}),
        criterion("1.b"),
        criterion("0.mean", derive={"mean_of": ["1.*"]}),
        criterion("0.figure", derive={"figure_of": ["1.a/share"]}),
    )
    assert rules.sources("0.mean") == ("1.a", "1.b")
    assert rules.sources("0.figure") == ("1.a",)
    assert rules.sources("1.a") == ()
    assert rules.sources("nothing") == ()


@pytest.mark.parametrize(
    ("score", "status"),
    [(1.0, "GREEN"), (0.9, "GREEN"), (0.8999, "YELLOW"), (0.7, "YELLOW"), (0.6999, "RED"), (0.0, "RED")],
)
def test_scores_become_statuses_at_the_thresholds(score: float, status: str) -> None:
    assert rulebook(criterion("1.a")).scoring.status_of(score) == status


@pytest.mark.parametrize(
    ("criteria", "fault"),
    [
        ([criterion("1.a"), criterion("1.a")], "appear twice: 1.a"),
        ([criterion("1.a", category="other")], "unknown category 'other'"),
        ([criterion("1.a", weight=-1.0)], "weight"),
        ([criterion("1.a", weight=float("nan"))], "weight"),
        ([criterion("1.a", colour="blue")], "colour"),
        ([criterion("1.a", baseline="PINK")], "baseline"),
        ([criterion("1.a", figures={"x": {"target": "lots"}})], "cannot read the comparison 'lots'"),
        ([criterion("1.a", derive={"mean_of": ["2.*"]})], "'2.\\*' names no criterion"),
        ([criterion("1.a", derive={"mean_of": ["1.*"]})], "or its own row"),
        ([criterion("1.a", derive={"figure_of": ["1.b/x"]}), criterion("1.b")], "declared by no criterion"),
        ([criterion("1.a", derive={})], "exactly one of mean_of and figure_of"),
        (
            [criterion("1.a", derive={"mean_of": ["1.b"]}, figures={"x": {"target": ">= 1"}}), criterion("1.b")],
            "declares none",
        ),
    ],
)
def test_a_faulty_rulebook_is_refused_in_one_sentence(criteria: list[dict[str, Any]], fault: str) -> None:
    with pytest.raises(AuditError, match=fault) as caught:
        parse_rulebook(rulebook_data(*criteria), "rules.toml")
    assert str(caught.value).startswith("rules.toml: ")
    assert "\n" not in str(caught.value)


def test_trends_follow_figures_that_are_declared() -> None:
    data = rulebook_data(criterion("1.a", figures={"x": {"target": ">= 1"}}))
    assert parse_rulebook(data | {"trends": ["1.a/x"]}, "rules.toml").trends == ("1.a/x",)
    with pytest.raises(AuditError, match=r"trends: '1\.a/y' is declared by no criterion"):
        parse_rulebook(data | {"trends": ["1.a/y"]}, "rules.toml")


def test_the_digest_changes_with_the_rules_and_not_with_what_only_reports_show() -> None:
    data = rulebook_data(criterion("1.a", figures={"x": {"target": ">= 1"}}))
    rules = parse_rulebook(data, "rules.toml")
    assert parse_rulebook(data | {"trends": ["1.a/x"]}, "rules.toml").digest == rules.digest
    stricter = rulebook_data(criterion("1.a", figures={"x": {"target": ">= 2"}}))
    assert parse_rulebook(stricter, "rules.toml").digest != rules.digest


def test_a_status_without_credit_is_refused() -> None:
    data = rulebook_data(criterion("1.a"))
    del data["scoring"]["credit"]["GREY"]
    with pytest.raises(AuditError, match="each of GREEN, YELLOW, RED and GREY"):
        parse_rulebook(data, "rules.toml")
