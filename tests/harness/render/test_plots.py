from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.errors import AuditError
from harness.render.plots import PlotSpec, Score, is_plot, parse_plot, plot_svg, short_number, then_and_now_svg
from tests.harness.render import cards


def drawn(attachment: dict[str, Any], prefix: str = "p") -> str:
    return plot_svg(parse_plot(attachment), prefix)


@pytest.mark.parametrize("attachment", [cards.CURVE, cards.BARS])
def test_a_plot_is_a_small_standalone_svg_and_always_the_same_bytes(attachment: dict[str, Any]) -> None:
    svg = drawn(attachment)
    assert svg == drawn(attachment)
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("aria-label") == attachment["title"]
    assert not re.search(r"https?://|<script|<style|<image|font-family|#[0-9a-f]{6}", svg)


def test_colours_follow_the_page() -> None:
    svg = drawn(cards.CURVE)
    assert "var(--series-1)" in svg
    assert "var(--series-2)" in svg
    assert "var(--ink)" in svg


def test_ids_are_the_plot_s_own_and_every_reference_has_its_target() -> None:
    svg = drawn(cards.CURVE, "plot-7")
    ids = re.findall(r'id="([^"]+)"', svg)
    assert ids
    assert all(each.startswith("plot-7-") for each in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) == set(ids)


def test_series_are_told_apart_without_colour() -> None:
    dashes = set(re.findall(r"stroke-dasharray: [^;\"]+", drawn(cards.CURVE)))
    assert len(dashes) >= 2  # the second series and the limit; the first is solid
    two = cards.BARS | {"y": {"a": [1.0] * 14, "b": [2.0] * 14}}
    assert "<pattern" in drawn(two)


def test_a_guide_is_a_line_and_the_others_are_marks() -> None:
    plot = cards.CURVE | {"y": {"roof": [1.0, 2.0, 3.0, 3.0], "arm": [None, 1.0, None, 2.0]}, "limits": {}}
    plain, guided = drawn(plot), drawn(plot | {"guides": ["roof"]})
    assert guided.count("<use") < plain.count("<use")
    assert "stroke-dasharray" in plain
    assert "stroke-dasharray" not in guided
    with pytest.raises(AuditError, match="the guide 'floor' is no series"):
        drawn(plot | {"guides": ["floor"]})


def test_a_gap_is_a_gap_and_never_zero() -> None:
    spec = parse_plot(cards.CURVE)
    assert spec.gaps == 1
    whole = cards.CURVE | {"y": {"one plane": [456.0, 300.0, 100.0, 60.0]}}
    gap = cards.CURVE | {"y": {"one plane": [456.0, 300.0, None, 60.0]}}
    markers = [svg.count("<use") for svg in (drawn(whole), drawn(gap))]
    assert markers[0] - markers[1] == 1


def test_a_gap_in_bars_has_no_label() -> None:
    bars = {"plot": "bar", "title": "t", "x": ["a", "b"], "y": {"s": [1.5, None]}, "x_label": "", "y_label": ""}
    assert re.findall(r">([^<>]*1\.5)<", drawn(bars))
    assert "nan" not in drawn(bars)


def test_lines_over_names_and_logarithmic_axes_are_drawn() -> None:
    named = cards.CURVE | {"x": ["a", "b", "c", "d"]}
    assert ">c</text>" in drawn(named).replace("\n", "")
    logarithmic = cards.CURVE | {"x_scale": "log"}
    assert drawn(logarithmic) != drawn(cards.CURVE)


def test_many_long_names_are_shortened_by_what_they_share() -> None:
    svg = drawn(cards.BARS)
    assert "model.layers." in svg
    assert "model.layers.0.q_proj" not in svg


def test_foreign_text_is_text() -> None:
    svg = drawn(cards.CURVE | {"title": '"><script>', "x_label": "<b>$x_2$</b>", "y": {"<i>": [1.0, 2.0, 3.0, 4.0]}})
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == '"><script>'
    assert not {"b", "i", "script"} & {element.tag for element in root.iter()}
    assert "<b>$x_2$</b>" in {(element.text or "").strip() for element in root.iter("text")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plot": "pie"}, "because of its plot"),
        ({"x": []}, "because of its x"),
        ({"y": {"a": [1.0]}}, "series 'a' has 1 values for 4 entries of x"),
        ({"colour": "red"}, "because of its colour"),
    ],
)
def test_an_attachment_that_breaks_the_convention_is_refused_in_one_sentence(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(AuditError, match=message):
        parse_plot(cards.CURVE | change)


def test_only_an_object_with_a_plot_is_one() -> None:
    assert is_plot(cards.CURVE)
    assert not is_plot({"title": "no plot"})
    assert not is_plot([1, 2])


def test_numbers_in_drawings_are_short() -> None:
    assert [short_number(each) for each in (0.12345, 12345.0, 1e9, None, math.nan)] == [
        "0.123",
        "12,345",
        "1e+09",
        "",
        "",
    ]


def test_then_and_now_name_what_was_not_measured() -> None:
    scores = [Score("First", 72.6, 9.7), Score("Second", None, 20.0), Score("Third", 100.0, None)]
    svg = then_and_now_svg(scores, "c", "Scores")
    texts = " ".join("".join(element.itertext()) for element in ElementTree.fromstring(svg).iter("text"))
    for words in ("First", "72.6 % → 9.7 %", "not audited → 20.0 %", "100.0 % → not measured"):
        assert words in texts
    assert svg == then_and_now_svg(scores, "c", "Scores")


def test_values_that_are_not_finite_count_as_gaps() -> None:
    spec = PlotSpec(plot="line", title="t", x=[1.0, 2.0], y={"a": [math.nan, math.inf]}, x_label="", y_label="")
    assert spec.gaps == 2
    assert "nan" not in plot_svg(spec, "p")


def test_intervals_are_drawn_as_whiskers_and_those_that_are_missing_are_not() -> None:
    bars = cards.BARS | {"x": ["a", "b"], "y": {"ratio": [2.0, 3.0]}}
    plain = drawn(bars)
    one = drawn(bars | {"intervals": {"ratio": [[1.5, 2.5], None]}})
    both = drawn(bars | {"intervals": {"ratio": [[1.5, 2.5], [2.0, 4.0]]}})
    assert len({plain, one, both}) == 3
    spec = parse_plot(bars | {"intervals": {"ratio": [[1.5, 2.5], None]}})
    assert spec.whiskers("ratio")[0] == (0.5, 0.5)
    assert math.isnan(spec.whiskers("ratio")[1][0])


def test_a_line_has_whiskers_too() -> None:
    ends = [[400.0, 500.0], [200.0, 400.0], None, [50.0, 70.0]]
    assert drawn(cards.CURVE | {"intervals": {"one plane": ends}}) != drawn(cards.CURVE)


@pytest.mark.parametrize("intervals", [{"ratio": [[1.0, 2.0]]}, {"nobody": [None, None]}])
def test_intervals_belong_to_the_values_of_a_series(intervals: dict[str, Any]) -> None:
    bars = cards.BARS | {"x": ["a", "b"], "y": {"ratio": [2.0, 3.0]}, "intervals": intervals}
    with pytest.raises(AuditError, match="the intervals of"):
        parse_plot(bars)
