from __future__ import annotations

from harness.render.gallery import category_chart, gallery, links, published_chart
from harness.render.page import build_page
from harness.scorecard import build
from tests.harness import made_up
from tests.harness.made_up import criterion, rulebook, run
from tests.harness.render import cards


def test_every_attached_plot_is_drawn_with_its_numbers_and_nothing_else_is() -> None:
    curve, norms, broken = gallery(cards.scorecard())
    assert (curve.anchor, norms.anchor, broken.anchor) == ("plot-1", "plot-2", "plot-3")
    assert curve.rows == (("3.compression-target", "row-3.compression-target"),)
    assert curve.columns == ("bits per weight", "one plane", "two planes")
    assert curve.table[2] == ("4", "not measured", "33")
    assert curve.gaps == 1
    assert norms.table[0] == ("model.layers.0.q_proj", "0")


def test_a_plot_that_cannot_be_drawn_says_why() -> None:
    broken = gallery(cards.scorecard())[-1]
    assert "series 'a' has 2 values for 1 entries" in broken.problem
    assert broken.svg == ""


def test_checks_link_to_their_plots() -> None:
    found = links(gallery(cards.scorecard()))
    assert {name: [link.anchor for link in each] for name, each in found.items()} == {
        "suites/test_front.py::test_a": ["plot-1"],
        "suites/test_flow.py::test_a": ["plot-2", "plot-3"],
    }


def test_the_charts_set_then_beside_now() -> None:
    card = cards.scorecard()
    assert f"72.6 % → {cards.SCORE}" in category_chart(build_page(card))
    published = published_chart(card)
    assert "84.5 % → " in published
    assert "Integration (7)" in published
    assert "60.0 % → not measured" in published


def test_without_published_scores_there_is_no_such_chart() -> None:
    card = build(run(made_up.check("a", "1.a")), rulebook(criterion("1.a")))
    assert published_chart(card) == ""
