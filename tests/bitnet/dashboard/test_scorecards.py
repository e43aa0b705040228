import json
import math

import pytest

from bitnet.dashboard.scorecards import history, history_files, load_scorecard, scorecard_file
from bitnet.errors import BitnetError
from tests.bitnet.dashboard.made_up import scorecard, write_reports


def test_a_scorecard_is_read_whatever_else_it_holds(tmp_path):
    card = load_scorecard(scorecard_file(write_reports(tmp_path)))
    assert card.overall.score == 0.6173
    assert card.revision == "commit 0123456789ab with changes"
    assert math.isnan(card.criteria[2].figures[0].value)
    assert [check.outcome for check in card.checks_of(card.criteria[0])] == ["failed"]
    assert card.checks_of(card.criteria[1]) == ()


def test_rows_tell_which_way_they_moved(tmp_path):
    card = load_scorecard(scorecard_file(write_reports(tmp_path)))
    assert [row.movement for row in card.criteria] == ["better", "worse", "measured", "not measured now", "same"]


def test_a_folder_may_hold_the_scorecard_itself(tmp_path):
    assert scorecard_file(tmp_path) == tmp_path / "latest" / "scorecard.json"
    (tmp_path / "scorecard.json").write_text("{}")
    assert scorecard_file(tmp_path) == tmp_path / "scorecard.json"


@pytest.mark.parametrize(
    ("content", "told"), [(None, "no scorecard at"), ("{", "not valid JSON"), (json.dumps({"profile": "x"}), "subject")]
)
def test_what_is_no_scorecard_is_told_in_one_sentence(tmp_path, content, told):
    path = tmp_path / "scorecard.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BitnetError, match=told):
        load_scorecard(path)


def test_a_history_is_in_order_and_keeps_one_of_each_moment(tmp_path):
    reports = write_reports(tmp_path, earlier=2)
    (reports / "history" / "again.json").write_text(json.dumps(scorecard()))
    assert len(history_files(reports)) == 4
    told = BitnetError("damaged")
    found = history([told, *(load_scorecard(path) for path in history_files(reports))])
    assert [card.overall.score for card in found.scorecards] == pytest.approx([0.4, 0.41, 0.6173])
    assert found.unreadable == ("damaged",)


def test_a_scorecard_without_a_commit(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(scorecard(commit=None)))
    assert load_scorecard(tmp_path / "a.json").revision == "commit unknown"
