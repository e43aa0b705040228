from __future__ import annotations

import pytest

from harness.criteria import Status
from harness.evidence import Figure
from harness.render.rows import MARKS, PlotLink, RowView, anchor_of, interval_text, row_view
from harness.scorecard import Scorecard, build
from tests.harness import made_up
from tests.harness.made_up import criterion, figure, rulebook, run
from tests.harness.render import cards


@pytest.fixture(scope="module")
def card() -> Scorecard:
    return cards.scorecard()


def view(card: Scorecard, criterion_id: str, **plots: tuple[PlotLink, ...]) -> RowView:
    row = card.row(criterion_id)
    assert row is not None
    return row_view(card, row, plots)


def test_every_status_has_its_own_word_and_its_own_symbol() -> None:
    assert set(MARKS) == set(Status)
    for part in ("word", "symbol", "meaning"):
        assert len({getattr(mark, part) for mark in MARKS.values()}) == len(Status)


def test_the_worst_measurement_stands_first_and_the_others_are_kept(card: Scorecard) -> None:
    row = view(card, "1.1.compression-ratio")
    assert [(each.value, each.verdict, each.target) for each in row.figures] == [("0.92x", "missed", ">= 1.0")]
    assert [(each.value, each.verdict) for each in row.other_figures] == [("1.2x", "met")]
    assert row.reason == ""  # it would only repeat the figure
    assert row.worse


def test_nan_is_shown_by_name_and_as_missed(card: Scorecard) -> None:
    row = view(card, "1.1.sparsity-injection")
    shown = {each.name: (each.value, each.verdict) for each in row.figures}
    assert shown == {"zero_fraction": ("NaN", "missed"), "gaussian_curve_error": ("not measured", "")}
    assert row.status.word == "RED"
    assert "not a finite number" in row.reason


def test_a_figure_is_shown_with_as_many_digits_as_its_verdict_needs(card: Scorecard) -> None:
    branch = next(each for each in view(card, "0.test-coverage").figures if each.name == "branch_coverage")
    assert (branch.value, branch.verdict, branch.tolerance) == ("89.996 %", "within tolerance", ">= 70")


def test_a_claim_on_an_interval_shows_the_interval_and_says_that_the_whole_of_it_counts(card: Scorecard) -> None:
    (speed,) = view(card, "1.1.inference-speedup").figures
    assert speed.interval == "95 % interval 2.02 to 2.6"
    assert speed.target == ">= 2.0 for the whole interval"
    assert interval_text((1.0, 2.0), "ms") == "95 % interval 1 to 2 ms"
    assert interval_text(None, "ms") == ""


def test_outcomes_are_told_in_words_and_by_their_own_symbols(card: Scorecard) -> None:
    told = {
        name: [(each.symbol, each.words, each.message) for each in view(card, name).checks]
        for name in ("2.ste", "2.dashboard", "2.model-registry", "A.packing-exact")
    }
    assert told == {
        "2.ste": [("✗", "broke", "RuntimeError: boom\nsecond line")],
        "2.dashboard": [("○", "skipped", "streamlit is not installed")],
        "2.model-registry": [("○", "not applicable", "no registry")],
        "A.packing-exact": [("✓", "passed", "")],
    }


def test_a_row_says_where_its_evidence_is_and_what_was_left_to_the_full_profile(card: Scorecard) -> None:
    assert view(card, "1.1.fine-tuning").evidence == "Evidence: none, no check ran"
    assert view(card, "1.1.fine-tuning").left_out == "1 more check in the full profile only."
    assert view(card, "1.1.compression-ratio").evidence == "Evidence: 2 checks"
    derived = view(card, "0.architecture-match")
    assert derived.evidence == "Evidence: derived from 7 rows"
    assert derived.derived_from[0] == ("1.1.ternary-quantization", "row-1.1.ternary-quantization")
    assert [(each.name, each.value) for each in derived.figures] == [("score", "42.9 %")]


def test_what_a_row_earns_is_shown(card: Scorecard) -> None:
    assert view(card, "2.ste").arithmetic == "RED earns the credit 0, times the weight 1: 0 of 1."
    assert view(card, "0.test-coverage").arithmetic.endswith("the row has no weight in the overall score.")
    assert "3 / sum of weights 7" in view(card, "0.architecture-match").arithmetic


def test_unmeasured_is_not_worse_and_partly_met_is() -> None:
    rules = rulebook(
        criterion("1.a", figures={"ratio": {"target": ">= 8", "tolerance": ">= 6"}}),
        criterion("1.b"),
        criterion("1.c", baseline="RED"),
    )
    records = [made_up.check("a", "1.a", figures={"ratio": figure(7.0)}), made_up.check("c", "1.c", outcome="failed")]
    card = build(run(*records), rules)
    assert [view(card, name).worse for name in ("1.a", "1.b", "1.c")] == [True, False, False]
    assert view(card, "1.a").reason == ""


def test_plots_are_linked_to_their_check(card: Scorecard) -> None:
    links = {"suites/test_front.py::test_a": (PlotLink("plot-1", "Quality"),)}
    row = card.row("3.compression-target")
    assert row is not None
    (check,) = row_view(card, row, links).checks
    assert check.plots == (PlotLink("plot-1", "Quality"),)
    assert check.attachments == ("frontier", "table")


def test_an_undeclared_figure_is_shown_with_its_check() -> None:
    card = build(
        run(made_up.check("a", "1.a", figures={"seconds": Figure(value=2.5, unit="s")})), rulebook(criterion("1.a"))
    )
    (check,) = view(card, "1.a").checks
    assert [(each.name, each.value, each.verdict) for each in check.figures] == [("seconds", "2.5 s", "")]


def test_anchors_have_no_character_that_a_link_could_not_hold() -> None:
    assert anchor_of('5.red.a b"<') == "row-5.red.a-b--"
