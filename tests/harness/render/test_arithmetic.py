from __future__ import annotations

import pytest

from harness.criteria import load_rulebook
from harness.render.arithmetic import (
    as_percent,
    audit_score_now,
    published_means,
    published_overall,
    share_now,
    share_then,
    sum_of,
)
from harness.scorecard import build
from tests.harness import made_up
from tests.harness.made_up import criterion, figure, rulebook, run
from tests.harness.render import cards

RULES = rulebook(
    criterion("1.a", weight=2.0),
    criterion("1.b", baseline="YELLOW"),
    criterion("1.c", baseline="GREY"),
    criterion("1.d", weight=0.0),
)
CARD = build(run(made_up.check("a", "1.a"), made_up.check("c", "1.c", outcome="failed")), RULES)


def test_rows_that_were_not_measured_stay_in_the_weight() -> None:
    share = share_now(CARD.criteria)
    assert (share.sum, share.text) == ("2 / 4", "50.0 %")
    assert share.value == CARD.overall.score


def test_rows_that_the_forensic_audit_does_not_have_are_left_out_of_its_share() -> None:
    share = share_then(CARD.criteria, CARD.scoring)
    assert (share.sum, share.text) == ("2.5 / 3", "83.3 %")


def test_without_weight_or_measurement_there_is_no_share_but_words() -> None:
    unmeasured, weightless = CARD.criteria[1:2], CARD.criteria[3:]
    assert (share_now(unmeasured).value, share_now(unmeasured).text) == (None, "not measured")
    assert (share_now(weightless).text, share_now(weightless).sum) == ("no weight", "no weight")
    assert share_then(weightless, CARD.scoring).text == "no weight"
    assert share_then(CARD.criteria[2:3], CARD.scoring).text == "not audited"


def test_every_sum_adds_up_line_by_line() -> None:
    made = sum_of("Parts", CARD.criteria, CARD.scoring)
    assert [(line.id, line.then, line.now) for line in made.lines] == [
        ("1.a", "2 x 1 = 2", "2 x 1 = 2"),
        ("1.b", "1 x 0.5 = 0.5", "1 x 0 = 0"),
        ("1.c", None, "1 x 0 = 0"),
    ]
    assert made.then.credit == 2.5
    assert made.now.credit == 2.0


def test_the_whole_scorecard_s_sums_give_its_overall_score() -> None:
    card = cards.scorecard()
    total = sum_of("Overall", card.criteria, card.scoring)
    assert total.now.credit == pytest.approx(card.overall.credit)
    assert total.now.value == pytest.approx(card.overall.score)
    assert total.then.sum == "45 / 62"


def test_the_published_scores_and_the_means_of_their_tables() -> None:
    card = cards.scorecard()
    assert published_overall(card) == "84.5 %"
    assert published_means(card) == pytest.approx((75.6, 72.6))
    assert published_overall(CARD) == "not published"
    assert published_means(CARD) == ()


def test_only_a_number_with_a_percent_sign_is_a_percentage() -> None:
    assert [as_percent(each) for each in ("84.5%", "[X]", "many%", "12")] == [84.5, None, None, None]


def test_a_score_row_s_figure_is_the_worst_one_and_never_one_that_is_not_a_number() -> None:
    card = cards.scorecard()
    coverage, derived = card.row("0.test-coverage"), card.row("0.architecture-match")
    assert coverage is not None
    assert derived is not None
    assert audit_score_now(coverage) == 89.996
    assert derived.score is not None
    assert audit_score_now(derived) == pytest.approx(100 * derived.score)
    broken = made_up.check("x", "0.test-coverage", figures={"line_coverage": figure(float("nan"), unit="%")})
    row = build(run(broken), load_rulebook()).row("0.test-coverage")
    assert row is not None
    assert audit_score_now(row) is None
