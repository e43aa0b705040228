import json

import pytest

from harness.mutants.audition import Audition, Verdict
from harness.mutants.matrix import as_json, by_check, from_json, summary, tried
from harness.mutants.mutant import Mutant, Stage
from harness.mutants.reference.bare import BareSubject
from tests.harness.mutants.made_up import ALARM, IDLE, ONE, OTHER, matrix, trial

ROW, ANOTHER = "A.packing-exact", "A.bad-input"


def verdict(cell=None, check="one", criteria=(ROW,), nodeid=None):
    return Verdict(
        check=f"test_a.py::test_{check}",
        nodeid=nodeid or f"suites/test_a.py::test_{check}",
        criteria=criteria,
        outcome="failed" if cell else "passed",
        cell=cell,
        message="AssertionError" if cell else "",
    )


def mutant(**changes):
    values = {"id": "area/a", "title": "A", "area": "area", "criterion": ROW, "checks": ("test_one",)}
    return Mutant(**(values | {"stage": Stage("test_a.py"), "factory": lambda _: BareSubject()} | changes))


def fate(*verdicts, witness="pack()", **changes):
    return tried(mutant(**changes), Audition(verdicts, 1.0), witness).fate


@pytest.mark.parametrize("cell", ["assertion", "figure"])
def test_a_mutant_is_killed_by_a_verdict_of_its_own_criterion(cell) -> None:
    assert fate(verdict(cell)) == "killed"
    assert fate(verdict(), verdict(cell, "other")) == "killed"


def test_a_mutant_survives_where_nothing_or_another_criterion_turns_red() -> None:
    assert fate(verdict()) == "survived"
    assert fate(verdict("assertion", criteria=(ANOTHER,))) == "survived"
    assert fate() == "survived"


def test_a_crash_is_told_apart_and_counts_only_where_it_is_the_defect() -> None:
    assert fate(verdict("crash")) == "crashed"
    assert fate(verdict("crash"), crashes=True) == "killed"
    assert fate(verdict("crash", criteria=(ANOTHER,)), crashes=True) == "survived"
    assert fate(verdict("crash"), verdict("assertion")) == "killed"


def test_a_mutant_that_does_not_differ_is_none_whatever_turns_red() -> None:
    assert fate(verdict("assertion"), witness=None) == "equal"


def test_what_was_not_foreseen_is_told() -> None:
    done = Audition((verdict(), verdict("assertion", "other")), 1.0)
    found = tried(mutant(), done, "pack()")
    assert (found.missed, found.unexpected) == ((ONE,), (OTHER,))


def test_an_assertion_of_one_case_outweighs_the_crash_of_another() -> None:
    cells = [verdict("crash", nodeid="a[1]"), verdict("assertion", nodeid="a[2]"), verdict("figure", nodeid="a[3]")]
    assert Audition(tuple(cells), 1.0).red() == {ONE: "assertion"}
    assert Audition(tuple(cells), 1.0).red("crash") == {ONE: "crash"}


def test_a_sound_matrix_has_no_survivor_no_idle_check_and_no_false_alarm() -> None:
    assert matrix().sound
    assert not matrix(trial(), trial("second", fate="survived", red={OTHER: "assertion"})).sound
    assert not matrix(checks=(ONE, OTHER, IDLE)).sound
    assert not matrix(false_alarms=(ALARM,)).sound


def test_nothing_is_not_sound() -> None:
    assert not matrix().model_copy(update={"trials": (), "checks": ()}).sound


def test_a_check_that_only_broke_down_is_idle_but_where_that_was_the_defect() -> None:
    other = trial("second", red={OTHER: "assertion"})
    assert matrix(trial(red={ONE: "crash"}, fate="crashed"), other).idle_checks == (ONE,)
    assert matrix(trial(red={ONE: "crash", OTHER: "assertion"}), other).idle_checks == (ONE,)
    assert matrix(trial(red={ONE: "crash"}), other).idle_checks == ()


def test_a_sample_cannot_say_that_a_check_is_idle() -> None:
    sample = matrix(trial(), complete=False, available=300)
    assert sample.idle_checks == ()
    assert sample.sound
    assert summary(sample) == (
        "a sample of 1 of 300 mutants: 1 killed, 0 survived; idle not counted; 0 false alarms over 20 seeds"
    )


def test_a_check_whose_mutants_cannot_be_had_is_set_aside_and_counted() -> None:
    made = matrix(checks=(ONE, OTHER, IDLE), set_aside={IDLE: "a_library not installed"})
    assert made.idle_checks == ()
    assert made.sound
    assert "0 of 3 checks idle (1 set aside); " in summary(made)
    assert from_json(json.loads(json.dumps(as_json(made)))) == made


def test_the_summary_counts() -> None:
    text = summary(matrix(trial(), trial("second", fate="equal"), checks=(ONE, OTHER, IDLE), false_alarms=(ALARM,)))
    assert text == "2 mutants: 1 killed, 1 survived; 2 of 3 checks idle; 1 false alarms over 20 seeds"


def test_json_has_the_counts_and_gives_the_matrix_back() -> None:
    made = matrix(trial(), trial("second", fate="survived", red={}), false_alarms=(ALARM,))
    data = json.loads(json.dumps(as_json(made)))
    assert (data["mutants"], data["killed"], data["survivors"]) == (2, 1, ["area/second"])
    assert data["idle_checks"] == [OTHER]
    assert data["matrix"] == {"area/first": {ONE: "assertion"}, "area/second": {}}
    assert data["false_alarms"][0]["seed"] == 3
    assert from_json(data) == made


def test_kills_are_counted_by_check() -> None:
    assert by_check(matrix(trial(), trial("second", red={ONE: "figure", OTHER: "crash"})).trials) == {
        ONE: ["area/first", "area/second"]
    }
