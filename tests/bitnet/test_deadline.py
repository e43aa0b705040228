import time

import pytest

from bitnet.deadline import Deadline


def test_answers_follow_the_clock(tmp_path):
    assert Deadline(tmp_path / "past.json", "run", time.monotonic()).over()
    assert not Deadline(tmp_path / "future.json", "run", time.monotonic() + 60).over()


def test_the_same_run_gets_the_answers_that_it_got_before(tmp_path):
    file = tmp_path / "deadline.json"
    assert [Deadline(file, "run", time.monotonic() + 60).over()] == [False]
    again = Deadline(file, "run", time.monotonic() - 1)
    assert [again.over(), again.over()] == [False, True]
    assert [Deadline(file, "other run", time.monotonic() - 1).over()] == [True]


@pytest.mark.parametrize(
    "content", ['{"key": "run", "over": [tru', '{"key": "run"}', '{"key": "run", "over": [1]}', "[]"]
)
def test_damaged_answers_are_asked_for_anew(content, tmp_path):
    (tmp_path / "deadline.json").write_text(content)
    assert Deadline(tmp_path / "deadline.json", "run", time.monotonic()).over()
