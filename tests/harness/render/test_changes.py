from __future__ import annotations

import json

from harness.diff import compare
from harness.gate import Breach, Judgement
from harness.render import changes, workflow
from harness.scorecard import build, parse, to_json
from tests.harness.made_up import check, criterion, figure, rulebook, run

RULES = rulebook(criterion("1.a", figures={"ratio": {"target": ">= 8", "unit": "x"}}), criterion("1.b"))
JUDGEMENT = Judgement(
    breaches=(Breach("1.a", "RED (50 % of\n2: no, never)", "GREEN", "1.a"),),
    expected=((Breach("1.b", "RED", "GREEN", "1.b"), "issue 7"),),
    warnings=("known.txt, line 3: '9.z' matches nothing; correct or remove it",),
)


def measured(value: float, low: float, high: float, **changed: object):
    card = build(run(check("a", "1.a", figures={"ratio": figure(value, low, high)}), check("b", "1.b")), RULES)
    data = json.loads(to_json(card))
    data["criteria"][0] |= changed
    return parse(data, "made-up")


def test_a_diff_shows_intervals_noise_edits_and_regressions() -> None:
    found = compare(measured(9.0, 8.5, 9.5), measured(7.0, 6.5, 7.5, status="GREEN"), RULES)
    lines = list(changes.diff_lines(found))
    assert "1.a: GREEN -> RED (worse)" in lines
    assert "1.a/ratio: 9 [8.5, 9.5] -> 7 [6.5, 7.5] x (worse)" in lines
    assert "1.a: GREEN in the scorecard after, but its evidence gives RED (edited)" in lines
    assert lines[-1] == "regressions: 1.a, 1.a/ratio"
    noise = list(changes.diff_lines(compare(measured(9.0, 8.5, 9.5), measured(8.8, 8.4, 9.4), RULES)))
    assert noise[-1] == "1.a/ratio: 9 [8.5, 9.5] -> 8.8 [8.4, 9.4] x (worse, within the intervals)"


def test_other_rules_are_told_from_an_edit() -> None:
    old = measured(7.0, 6.5, 7.5, status="GREEN").model_copy(update={"rules": ""})
    assert "(judged by other rules, or edited)" in "\n".join(changes.diff_lines(compare(old, old, RULES)))


def test_the_json_of_a_diff_names_what_got_worse() -> None:
    found = json.loads(changes.diff_json(compare(measured(9.0, 8.5, 9.5), measured(7.0, 6.5, 7.5), RULES)))
    assert (found["regressions"], found["figure_regressions"], found["edited"]) == (["1.a"], ["1.a/ratio"], [])
    assert found["figures"][0]["after_interval"] == [6.5, 7.5]
    assert found["statuses"][0]["direction"] == "worse"


def test_the_json_of_a_judgement_has_everything() -> None:
    found = json.loads(changes.judgement_json(JUDGEMENT))
    assert found["held"] is False
    assert found["breaches"][0]["criterion"] == "1.a"
    assert found["expected"][0]["reason"] == "issue 7"
    assert len(found["warnings"]) == 1


def test_annotations_are_single_commands_with_everything_special_escaped() -> None:
    assert list(workflow.judgement_lines(JUDGEMENT)) == [
        "::error title=gate%3A 1.a::1.a: measured RED (50 %25 of%0A2: no, never), threshold GREEN",
        "::notice title=expected failure%3A 1.b::1.b: measured RED, threshold GREEN (issue 7)",
        "::warning title=expected failures::known.txt, line 3: '9.z' matches nothing; correct or remove it",
    ]
    assert list(changes.judgement_lines(JUDGEMENT))[1] == (
        "expected failure: 1.b: measured RED, threshold GREEN (issue 7)"
    )
