from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.render.markdown import SUMMARY_ROWS, code, render_markdown, render_summary, text
from harness.render.rows import MARKS
from harness.scorecard import build
from tests.harness import made_up
from tests.harness.made_up import criterion, rulebook, run
from tests.harness.render import cards

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# The only HTML that the reports themselves write.
OWN_HTML = re.compile(r"(</?details>\n?|<summary>[^<>]*</summary>\n?|<br>)+")


def tokens(markdown: str) -> list[Token]:
    return [inner for token in PARSER.parse(markdown) for inner in (token, *(token.children or ()))]


def shown(markdown: str) -> str:
    """The text that a reader sees."""
    return "".join(token.content for token in tokens(markdown) if token.type in ("text", "code_inline", "text_special"))


@pytest.fixture(scope="module")
def report() -> str:
    return render_markdown(cards.scorecard())


@pytest.mark.parametrize(
    "foreign",
    [
        '<script>alert("x")</script>',
        "a | b || c",
        "`tick` ``two``",
        "**bold** *it* _em_ __strong__ ~~gone~~",
        "[link](https://example.org) ![image](x) https://example.org www.example.org",
        "# heading",
        "- item",
        "1. item",
        "2) item",
        "> quote",
        "=====",
        "+ plus",
        "&amp; &lt; &#124;",
        "$x$ \\ back\\slash",
        "line_coverage 7.5 % tests/test_a.py::test_b",
    ],
)
def test_foreign_text_is_seen_as_it_was_and_is_never_markup(foreign: str) -> None:
    parsed = tokens(text(foreign))
    kinds = {token.type for token in parsed} - {"text", "text_special", "inline", "paragraph_open", "paragraph_close"}
    assert kinds == set()
    assert shown(text(foreign)) == foreign


def test_plain_words_and_figures_stay_readable_in_the_source() -> None:
    assert text("7.5 % of line_coverage (target >= 90)") == "7.5 % of line_coverage (target &gt;= 90)"
    assert text("two\nlines\x00") == "two lines\ufffd"


@pytest.mark.parametrize("foreign", ["plain", "with `one`", "``two`` and `", "`", "tests/a.py::b[x]", "<b>*a*</b>"])
def test_code_is_seen_as_it_was(foreign: str) -> None:
    assert shown(f"a {code(foreign)} z") == f"a {foreign} z"


def test_code_with_a_pipe_stays_in_its_cell() -> None:
    table = f"| a | b |\n| --- | --- |\n| {code('x | `y`')} | z |"
    cells = [token.content for token in tokens(table) if token.type == "code_inline"]
    assert cells == ["x | `y`"]
    assert code("") == ""


def test_the_same_scorecard_gives_the_same_text(report: str) -> None:
    assert render_markdown(cards.scorecard()) == report


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head(report: str) -> None:
    widths: list[int] = []
    for line in report.splitlines():
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)) - 1)
            assert widths[-1] == widths[0], line
        else:
            widths = []


def test_the_only_html_is_the_report_s_own(report: str) -> None:
    found = [token.content for token in tokens(report) if token.type in ("html_block", "html_inline")]
    assert found
    assert all(OWN_HTML.fullmatch(each.strip() + "\n" if each.strip() != "<br>" else "<br>") for each in found)
    assert not [token for token in tokens(report) if token.type in ("link_open", "image")]


def test_every_row_is_there_with_then_and_now(report: str) -> None:
    for row in cards.scorecard().criteria:
        then, now = (f"{MARKS[status].symbol} {status.value}" for status in (row.baseline, row.status))
        assert f"`{row.id}` | {then} → {now} |" in report


def test_figures_evidence_arithmetic_and_environment_are_there(report: str) -> None:
    for words in (
        "zero_fraction **NaN**, ✗ missed, target within 0.05..0.45",
        "speedup_ci_low **2.31x**, ✓ met, 95 % interval 2.02 to 2.6",
        "other measurement: ratio_over_target **1.2x**",
        "✗ broke `suites/test_ste.py::test_b` in 0.2 s: RuntimeError: boom second line",
        "| overall, mean of section 0 | 84.5% | 75.6 % |",
        f"**6.5 / {cards.WEIGHT} = {cards.SCORE}**",
        "`bitnet-audit run --subject made_up.py:Subject --profile quick --model tiny --seed 0`",
    ):
        assert words in report


def test_incomplete_and_restricted_runs_are_marked(report: str) -> None:
    assert "[!CAUTION]" not in report
    for render in (render_markdown, render_summary):
        incomplete = render(cards.incomplete())
        assert "**This run is not complete.**" in incomplete
        assert "> - the run was killed before it ended" in incomplete
        assert "restricted to A.packing-exact: the other rows" in render(cards.scorecard(only=("A.packing-exact",)))


def test_the_summary_is_short_and_says_where_the_rest_is() -> None:
    summary = render_summary(cards.scorecard())
    assert len(summary.splitlines()) < 60
    assert "## Not met" in summary
    assert (
        f"| **Overall** | **72.6 %** | **{cards.SCORE}** | **6** | **4** | **13** | **{cards.UNMEASURED}** |" in summary
    )
    assert "scorecard.html" in summary


def test_the_summary_s_list_of_what_is_not_met_ends_somewhere() -> None:
    names = [f"1.row-{index}" for index in range(SUMMARY_ROWS + 3)]
    failing = [made_up.check(name, name, outcome="failed", message="no") for name in names]
    card = build(run(*failing), rulebook(*map(criterion, names)))
    assert "… and 3 more rows." in render_summary(card)
    assert "more row" not in render_markdown(card)


def test_a_scorecard_without_faults_lists_none() -> None:
    card = build(run(made_up.check("a", "1.a")), rulebook(criterion("1.a")))
    assert "Not met" not in render_summary(card)
    assert "made-up 1.0 scores 100.0 %" in render_summary(card)
