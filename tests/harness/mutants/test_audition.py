"""One suite on one subject; what the suites themselves say of mutants is in tests/suites."""

from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.evidence import Figure
from harness.mutants import catalogue
from harness.mutants.audition import _cell, audition, run_suite
from harness.mutants.mutant import Stage
from harness.mutants.trace import load_calls
from tests.harness.made_up import check

STAGE = Stage("test_packing.py", only="golden")


def test_a_mutant_is_shown_to_a_suite_and_leaves_what_it_answered(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    done = audition(STAGE, "packing/padded-with-minus-one", tmp_path / "run", tmp_path, calls=calls)
    assert done.red() == {"test_packing.py::test_golden_bytes": "assertion"}
    assert done.seconds > 0
    assert {name for each in load_calls(calls).values() for name, *_ in each} >= {"files", "pack"}


def test_a_suite_that_does_not_start_or_finish_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"test_nothing\.py did not start: .*not found"):
        audition(Stage("test_nothing.py"), "packing", tmp_path / "run", tmp_path)
    with pytest.raises(AuditError, match="did not run to its end: no check was selected"):
        audition(Stage("test_packing.py", only="nothing_of_that_name"), "packing", tmp_path / "run", tmp_path)
    with pytest.raises(AuditError, match="there is no prop 'no-such-prop'"):
        audition(STAGE, "packing", tmp_path / "run", tmp_path, props=("no-such-prop",))


def test_a_subject_that_cannot_be_made_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="could not be made: ValueError: broken"):
        run_suite(STAGE, "def factory():\n    raise ValueError('broken')\n", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("outcome", "message", "cell"),
    [
        ("failed", "AssertionError", "assertion"),
        ("error", "AssertionError: a fixture found it wrong", "assertion"),
        ("error", "Failed: DID NOT RAISE", "assertion"),
        ("error", "RuntimeError: it broke down", "crash"),
        ("passed", "", None),
        ("skipped", "no compiler", None),
        ("not_applicable", "", None),
    ],
)
def test_verdicts_are_told_from_breakdowns(outcome: str, message: str, cell: str | None) -> None:
    assert _cell(check("suites/test_a.py::test_b", "A.packing-exact", outcome=outcome, message=message), False) == cell


def test_every_stage_can_be_set_up() -> None:
    from suites.props import PROPS
    from suites.stage import MODELS

    for mutant in catalogue.all_mutants():
        assert set(mutant.stage.models) <= set(MODELS)
        assert {*mutant.stage.props, *filter(None, [mutant.prop])} <= set(PROPS)


def test_a_figure_that_misses_its_target_turns_the_check_red() -> None:
    def recorded(name: str, value: float, timing: bool = False, judges_timings: bool = False) -> str | None:
        figures = {name: Figure(value=value, interval=(value, value), timing=timing)}
        return _cell(check("suites/test_a.py::test_b", "A.mutants-killed", figures=figures), judges_timings)

    assert recorded("surviving_mutants", 1.0) == "figure"
    assert recorded("surviving_mutants", 0.0) is None
    assert recorded("surviving_mutants", 1.0, timing=True) is None
    assert recorded("surviving_mutants", 1.0, timing=True, judges_timings=True) == "figure"
    assert recorded("another_figure", 1.0) is None
