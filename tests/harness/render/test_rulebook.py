import pytest

from harness.criteria import load_rulebook, parse_rulebook
from harness.render.rulebook import render_rulebook

ROW = {
    "category": "made",
    "title": "A | title",
    "claim": "It is <fast>",
    "explanation": "A race.",
    "baseline": "RED",
    "baseline_value": "3x",
}
RULEBOOK = {
    "scoring": {"credit": {"GREEN": 1, "YELLOW": 0.5, "RED": 0, "GREY": 0}, "green_from": 0.9, "yellow_from": 0.7},
    "baseline": {
        **{"title": "t", "date": "d", "project": "p", "core_features_claimed": 1, "lines_of_code": {}},
        **{"lines_of_code_range": [1, 2], "path_to_100_percent": {}, "weeks_to_production": [1, 2]},
    },
    "categories": {"made": "Made up"},
    "criterion": [
        ROW
        | {
            "id": "1.one",
            "reading": "Twice as fast.",
            "weight": 0.5,
            "figures": {
                "speed": {"target": ">= 2", "unit": "x", "judged_on": "interval"},
                "loss": {"target": "<= 1", "tolerance": "<= 2", "unit": "%"},
            },
        },
        ROW | {"id": "1.two", "derive": {"mean_of": ["1.one"]}},
        ROW | {"id": "1.three", "derive": {"figure_of": ["1.one/loss"]}},
    ],
}


def section(page, id):
    (found,) = (part for part in page.split("\n### ") if f"`{id}`: " in part)
    return found


def test_a_criterion_is_told_with_its_reading_figures_and_baseline():
    page = render_rulebook(parse_rulebook(RULEBOOK, "made up"))
    assert page.startswith("# Every criterion, explained\n")
    assert "GREEN 1, YELLOW 0.5, RED 0, GREY 0" in page
    assert "\n## Made up\n" in page
    told = section(page, "1.one")
    assert told.startswith("A \\| title\n")
    assert "It is &lt;fast&gt;" in told
    assert "- *Read as:* Twice as fast.\n- *Measured:* A race.\n" in told
    assert "`speed`: GREEN at `>= 2` x; both ends of its 95 % interval have to meet it\n" in told
    assert "`loss`: GREEN at `<= 1` %, YELLOW at `<= 2`\n" in told
    assert "- *Weight:* 0.5. *In the forensic audit:* RED, 3x" in told


@pytest.mark.parametrize(
    ("id", "told"),
    [("1.two", "the weighted mean credit of `1.one`"), ("1.three", "the lowest, in percent, of `1.one/loss`")],
)
def test_a_computed_row_says_what_it_is_computed_from(id, told):
    page = section(render_rulebook(parse_rulebook(RULEBOOK, "made up")), id)
    assert f"- *Computed from other rows:* {told}\n" in page
    assert "Read as" not in page


def test_our_own_rulebook_is_told_whole():
    rulebook = load_rulebook()
    page = render_rulebook(rulebook)
    assert page.count("\n### ") == len(rulebook.criteria)
    assert page.count("\n## ") == len(rulebook.categories)
