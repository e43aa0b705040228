from __future__ import annotations

import pytest

from harness.render.page import build_page
from harness.scorecard import build
from tests.harness import made_up
from tests.harness.made_up import criterion, rulebook, run
from tests.harness.render import cards


@pytest.fixture(scope="module")
def page():
    return build_page(cards.scorecard())


def test_the_headline_gives_the_score_and_the_verdict_counts_every_row(page) -> None:
    assert page.headline == f"made-up 1.0 scores {cards.SCORE}"
    assert page.verdict == (f"{cards.ROWS} criteria: 6 met, 4 partly met, 13 not met, {cards.UNMEASURED} not measured.")
    assert sum(count.number for count in page.counts) == cards.ROWS
    assert page.problems == ()
    assert page.restriction == ""


def test_the_published_score_stands_beside_what_the_audit_s_own_rows_give(page) -> None:
    now, published, rows = page.tiles
    assert now.value == cards.SCORE
    assert (published.value, rows.value) == ("84.5 %", "72.6 %")
    assert "75.6 % and 72.6 %" in published.note


def test_the_forensic_audit_s_figures_are_done_again(page) -> None:
    told = {each.name: (each.published, each.from_rows, each.arithmetic) for each in page.recounts}
    assert told["overall, mean of section 0"] == ("84.5%", "75.6 %", "(85 + 90 + 88 + 40 + 75) / 5")
    assert told["feature completion, boxes ticked"] == ("90%", "75 %", "15 of 20 boxes")
    assert told["lines of code, sum of the files"][:2] == ("2100 to 2400", "2,154 lines")


def test_every_row_stands_in_its_category_in_the_order_of_the_rulebook(page) -> None:
    rows = [row.id for category in page.categories for row in category.rows]
    assert sorted(rows) == sorted(row.id for row in cards.scorecard().criteria)
    assert page.categories[0].summary == "3 met, 3 not met, 1 not measured; 85.7 % then, 42.9 % now"
    assert page.categories[-1].summary == "4 partly met, 7 not met, 1 not measured"


def test_what_is_not_met_or_behind_is_listed_but_not_what_only_follows_from_it(page) -> None:
    assert {row.id for row in page.attention} == {
        "1.1.sparsity-injection",
        "1.1.ste-gradients",
        "1.1.compression-ratio",
        "1.2.per-channel-scaling",
        "2.ste",
    }
    assert len(page.unmeasured) == cards.UNMEASURED - 1


def test_the_rule_is_told_with_the_rulebook_s_own_numbers(page) -> None:
    assert "GREEN 1, YELLOW 0.5, RED 0, GREY 0" in page.rule
    assert "GREEN from 90 %, YELLOW from 70 %" in page.rule


def test_facts_and_environment_are_told_with_the_command_that_makes_everything_again(page) -> None:
    facts = dict(page.facts)
    assert facts["Started"] == "2026-01-02 03:04 UTC, took 1 min 0 s"
    assert facts["Commit"] == "0123456789ab"
    assert dict(page.environment)["Commit"] == "0123456789abcdef"
    assert page.command == "bitnet-audit run --subject made_up.py:Subject --profile quick --model tiny --seed 0"


def test_an_incomplete_run_says_so_in_its_headline() -> None:
    page = build_page(cards.incomplete())
    assert page.headline == f"made-up 1.0 scores {cards.SCORE} in a run that is not complete"
    assert len(page.problems) == 4
    assert dict(page.facts)["Started"] == "2026-01-02 03:04 UTC"


def test_a_restricted_run_says_so_in_its_headline() -> None:
    page = build_page(cards.scorecard(only=("A.packing-exact", "2.*")))
    assert page.headline == f"made-up 1.0 scores {cards.SCORE} on a selection of rows"
    assert page.restriction == "A.packing-exact, 2.*"


def test_a_run_that_measured_nothing_has_no_score() -> None:
    page = build_page(build(run(), rulebook(criterion("1.a"))))
    assert page.headline == "made-up 1.0 was not measured"
    assert page.tiles[0].value == "not measured"


def test_an_unknown_commit_an_odd_date_and_no_rows_are_told_as_they_are() -> None:
    page = build_page(build(run(made_up.check("a", "1.a"), commit=None, started="yesterday", models=()), rulebook()))
    assert dict(page.facts)["Commit"] == "unknown"
    assert dict(page.facts)["Started"] == "yesterday, took 1 min 0 s"
    assert dict(page.facts)["Models"] == "none"
    assert dict(page.environment)["Commit"] == "unknown"
    assert page.command == ""


def test_a_changed_work_tree_is_told() -> None:
    commit = made_up.Commit(id="0123456789abcdef", dirty=True)
    page = build_page(build(run(commit=commit), rulebook(criterion("1.a"))))
    assert dict(page.facts)["Commit"] == "0123456789ab with uncommitted changes"
    assert dict(page.environment)["Commit"] == "0123456789abcdef, work tree changed"
