from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from harness.render.console import WIDTH, print_scorecard, render_svg
from harness.scorecard import Scorecard, build
from tests.harness import made_up
from tests.harness.made_up import criterion, rulebook, run
from tests.harness.render import cards


def printed(card: Scorecard, directory: Path | None = None, **options) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, **options)
    print_scorecard(card, directory, console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def output() -> str:
    return printed(cards.scorecard(), Path("reports/latest"))


def test_where_there_is_no_terminal_lines_are_short_and_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    print_scorecard(cards.scorecard())
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= WIDTH
    assert "\x1b" not in output
    assert "Reports" not in output


def test_every_row_is_there_with_words_and_symbols(output: str) -> None:
    rows = re.findall(r"^ ([✓≈✗○]) (GREEN|YELLOW|RED|GREY) +([✓≈✗○]) (GREEN|YELLOW|RED|GREY) ", output, re.M)
    assert len(rows) == len(cards.scorecard().criteria)
    assert {("✓", "GREEN"), ("≈", "YELLOW"), ("✗", "RED"), ("○", "GREY")} >= {row[2:] for row in rows}


def test_figures_reasons_and_targets_are_there(output: str) -> None:
    text = " ".join(output.split())
    for words in (
        "zero_fraction NaN ✗ (target within 0.05..0.45)",
        "ratio_over_target 0.92x ✗ (target >= 1.0)",
        "2.31x ✓ (95 % interval 2.02 to 2.6, target >= 2.0 for the whole interval)",
        "measured in the full profile only",
        "[link](https://example.org)",  # rich's own markup is not read
    ):
        assert words in text


def test_the_scores_come_last_and_then_the_place_of_the_reports(output: str) -> None:
    tail = output[output.index("Category ") :]
    assert re.search(r"Core components \(1\.1\) +85\.7 % +42\.9 % +[█▓▒·]{14} +3 +0 +3 +1", tail)
    assert re.search(rf"Overall +72\.6 % +{re.escape(cards.SCORE)} +[█▓▒·]{{14}} +6 +4 +13 +{cards.UNMEASURED}", tail)
    assert f"made-up 1.0 scores {cards.SCORE}" in tail
    assert "published 84.5 %, what its rows give 72.6 %" in tail
    assert output.rstrip().endswith("Reports: reports/latest/scorecard.html (also .md and .json)")


def test_incomplete_and_restricted_runs_are_marked() -> None:
    incomplete = printed(cards.incomplete())
    assert "This run is not complete:" in incomplete
    assert "✗ the run was killed before it ended" in incomplete
    assert "Restricted to A.*: the other rows" in printed(cards.scorecard(only=("A.*",)))


def test_colours_are_used_on_a_terminal() -> None:
    assert "\x1b[32m✓ GREEN" in printed(cards.scorecard(), force_terminal=True, color_system="standard")


def test_categories_without_rows_and_rows_beyond_the_profile_are_told() -> None:
    card = build(
        run(made_up.check("a", "1.a"), deselected=[made_up.deselected("b", "1.a")]),
        rulebook(criterion("1.a"), criterion("1.b")),
    )
    output = printed(card)
    assert "1 more check in the full profile only." in output
    assert re.search(r"Scores +no weight +no weight +0 +0 +0 +0", output)


def test_the_picture_is_one_standalone_file_with_its_contents_in_words() -> None:
    svg = render_svg(cards.scorecard())
    assert svg == render_svg(cards.scorecard())
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label", "").startswith(f"made-up 1.0 scores {cards.SCORE}. {cards.ROWS} criteria: ")
    assert set(re.findall(r"https?://[^\"'<> ]+", re.sub(r">[^<>]*<", "><", svg))) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@font-face|@import|url\((?!#)|<script|<image", svg)
    shown = "".join(root.itertext())
    assert "Core\xa0components\xa0(1.1)" in shown
    assert "STE\xa0Gradients" in shown
