import signal
from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.source_mutants import trial
from tests.harness.source_mutants.conftest import FILE, SOURCE, TEST


@pytest.fixture
def rehearsal() -> trial.Rehearsal:
    return trial.Rehearsal(
        seconds={"slow": 9.0, "quick": 0.1, "other": 0.5},
        lines={"slow": (5,), "quick": (1,), "other": (5, 6)},
        imported=(1, 2),
        modules=(),
    )


def test_the_tests_that_reach_a_line_come_first_and_the_quickest_of_them_before_the_others(rehearsal) -> None:
    assert rehearsal.first(5, 5) == ("other", "slow", "quick")
    assert rehearsal.first(6, 9) == ("other", "quick", "slow")
    assert rehearsal.limit == 20 + 48


def test_lines_that_run_when_the_file_is_imported_are_reached(rehearsal) -> None:
    assert rehearsal.reaches(2, 4)
    assert rehearsal.reaches(6, 6)
    assert not rehearsal.reaches(3, 4)


def test_a_changed_source_is_seen_by_the_tests_and_by_nobody_else(place: Path) -> None:
    result = place / "result.json"
    trial._show(FILE, SOURCE.replace("a > b", "a < b"), (TEST,), ("test_made_up_place.py::test_larger",), result)
    assert trial.fate_of(0, result) == ("killed", "test_made_up_place.py::test_larger")
    assert (place / FILE).read_text(encoding="utf-8") == SOURCE


def test_a_change_without_effect_survives(place: Path) -> None:
    result = place / "result.json"
    trial._show(FILE, SOURCE.replace("a > b", "a >= b"), (TEST,), (), result)
    assert trial.fate_of(0, result) == ("survived", "")


def test_a_file_that_cannot_be_imported_is_noticed(place: Path) -> None:
    result = place / "result.json"
    trial._show(FILE, "larger = None + 1\n", (TEST,), (), result)
    assert trial.fate_of(0, result)[0] == "killed"


def test_a_file_that_was_imported_before_cannot_be_changed(place: Path) -> None:
    with pytest.raises(AuditError, match="was imported before it could be changed"):
        trial._show("harness/errors.py", "", (), (), place / "result.json")


def test_how_a_child_ended_says_what_became_of_the_change(tmp_path: Path) -> None:
    nothing = tmp_path / "result.json"
    assert trial.fate_of(-signal.SIGXCPU, nothing) == ("timeout", "")
    assert trial.fate_of(-signal.SIGALRM, nothing) == ("timeout", "")
    assert trial.fate_of(-signal.SIGSEGV, nothing) == ("killed", "")
    for code in (0, 1):
        with pytest.raises(AuditError, match="could not be shown"):
            trial.fate_of(code, nothing)


def test_a_child_that_never_ends_is_ended_when_it_has_had_its_time(tmp_path: Path) -> None:
    def work() -> None:
        while True:
            pass

    child = trial.start(work, seconds=1)
    child.join()
    assert trial.fate_of(child.exitcode, tmp_path / "result.json") == ("timeout", "")


def test_tests_that_fail_on_the_file_as_it_is_judge_nothing(place: Path) -> None:
    (place / TEST).write_text("def test_nothing():\n    assert False\n", encoding="utf-8")
    with pytest.raises(AuditError, match="do not pass on the file as it is"):
        trial.rehearse(FILE, (TEST,), place)


def test_only_other_people_s_modules_are_imported_beforehand() -> None:
    trial.preload(["bitnet.no_such_module", "no_such_library", "this.is.none"])
    trial.preload(["colorsys"])
    assert "colorsys" in trial.sys.modules
