from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from harness.render.html import render_html
from harness.render.rows import MARKS
from tests.harness.render import cards

VOID = {"meta", "br", "link", "img", "hr", "input"}
STYLE = resources.files("harness.render").joinpath("templates", "report.css").read_text(encoding="utf-8")


class Document(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.tags for each, value in attributes.items() if each == name]


@pytest.fixture(scope="module")
def html() -> str:
    return render_html(cards.scorecard())


@pytest.fixture(scope="module")
def document(html: str) -> Document:
    return Document(html)


def test_the_same_scorecard_gives_the_same_bytes(html: str) -> None:
    assert render_html(cards.scorecard()) == html


def test_the_page_is_well_nested_and_loads_nothing(html: str, document: Document) -> None:
    assert html.startswith("<!doctype html>\n")
    assert not {"script", "link", "img", "iframe", "object", "image"} & {tag for tag, _ in document.tags}
    assert all(reference.startswith("#") for reference in document.attributes("href"))
    assert document.attributes("src") == []
    assert not re.search(r"url\((?!#)|@import", html)
    assert "default-src 'none'" in html


def test_every_link_has_its_target_and_every_id_is_unique(document: Document) -> None:
    ids = document.attributes("id")
    assert len(ids) == len(set(ids))
    assert {reference[1:] for reference in document.attributes("href")} <= set(ids)


def test_foreign_text_is_shown_as_text(document: Document) -> None:
    text = "".join(document.text)
    assert '<script>alert("x")</script> | `tick` **bold**' in text
    assert not any(name.startswith("on") for _, attributes in document.tags for name in attributes)
    assert "\x1b" not in text
    assert "\x00" not in text


def test_every_row_stands_there_with_both_statuses_in_words_and_symbols(document: Document) -> None:
    card = cards.scorecard()
    rows = [attributes["id"] for tag, attributes in document.tags if tag == "tbody" and "id" in attributes]
    assert len(rows) == len(card.criteria)
    text = "".join(document.text)
    for mark in MARKS.values():
        assert f"{mark.symbol}{mark.word}" in text
    assert "≈4" in text.replace(" ", "").replace("\n", "")  # the bar gives symbol and number, not only a colour


def test_figures_arithmetic_baseline_and_command_are_on_the_page(document: Document) -> None:
    text = " ".join("".join(document.text).split())
    for words in (
        "NaN ✗ missed",
        "0.92x ✗ missed",
        "95 % interval 2.02 to 2.6",
        f"6.5 / {cards.WEIGHT} = {cards.SCORE}",
        "overall, mean of section 0",
        "bitnet-audit run --subject made_up.py:Subject --profile quick --model tiny --seed 0",
        "Not measured, and therefore not drawn: 1 of its values.",
        "series 'a' has 2 values for 1 entries of x",
    ):
        assert words in text


def test_an_incomplete_and_a_restricted_run_are_marked(html: str) -> None:
    assert 'class="warning"' not in html
    incomplete = render_html(cards.incomplete())
    Document(incomplete)
    assert "This run is not complete." in incomplete
    assert "the run was killed before it ended" in incomplete
    restricted = render_html(cards.scorecard(only=("A.*",)))
    assert "This run was restricted to A.*: the other rows were left unmeasured on purpose." in restricted


# --------------------------------------------------------------------------- contrast


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes() -> dict[str, dict[str, str]]:
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)[:2]
    )
    return {"light": light, "dark": light | dark}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(theme: str) -> None:
    colours = themes()[theme]
    pairs = [(ink, ground) for ink in ("ink", "muted", "accent") for ground in ("page", "paper", "raised")]
    pairs += [(status, f"{status}-bg") for status in ("green", "yellow", "red", "grey")]
    pairs += [(status, ground) for status in ("green", "yellow", "red", "grey") for ground in ("paper", "raised")]
    poor = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: value for pair, value in poor.items() if value < 4.5} == {}
    bar_text = re.search(r"\.bar span \{[^}]*[; ]color: (#[0-9a-f]{6})", STYLE)
    assert bar_text
    assert min(contrast(bar_text[1], colours[f"{status}-bar"]) for status in ("green", "yellow", "red", "grey")) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_stand_out_from_the_paper(theme: str) -> None:
    colours = themes()[theme]
    assert min(contrast(colours[f"series-{index}"], colours["paper"]) for index in range(1, 7)) >= 3.0
