"""Each wrong rule for gates, success and recovery turns the checks of its own name RED, and no others."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit, audit_defect, checks_in
from tests.suites.gate_subjects import GateSubject

SUITE = "test_quality_gates.py"
INSIDE = "test_a_figure_at_its_limit_and_inside_it_passes"
OUTSIDE = "test_a_figure_just_outside_its_limit_fails_that_gate_alone"
EXACT = "test_exactly_the_allowed_drop_passes"
DROP = "test_the_configured_drop_is_the_limit"
TARGET = "test_the_configured_compression_target_is_the_limit"
MISSING = "test_a_figure_that_was_not_measured_never_passes"
SUCCESS = "test_success_is_every_gate_and_a_reproduced_output"
TRIGGER = "test_recovery_starts_strictly_above_the_trigger"
BROKEN = "test_a_model_that_gives_no_perplexity_is_not_left_as_it_is"

WRONG_RULES = {
    "the limit itself fails": {INSIDE, OUTSIDE, EXACT, DROP, SUCCESS},
    "changes in floating point": {INSIDE, EXACT, DROP, SUCCESS, TRIGGER},
    "change of either sign counts": {INSIDE},
    "relative to the compressed model": {INSIDE, OUTSIDE, EXACT, DROP, SUCCESS, TRIGGER},
    "99 % will do": {OUTSIDE, SUCCESS},
    "drop fixed at 10 %": {EXACT, DROP},
    "target fixed at 8": {TARGET},
    "missing passes": {MISSING, SUCCESS},
    "comparisons the wrong way round": {MISSING},
    "success whatever the gates say": {OUTSIDE, MISSING, SUCCESS},
    "success is most of the gates": {OUTSIDE, MISSING, SUCCESS},
    "success without reproduction": {SUCCESS},
    "recovery at the trigger": {TRIGGER},
    "trigger fixed at 5 %": {TRIGGER},
    "NaN starts no recovery": {BROKEN},
}


def run(folder: Path, defect: str) -> Audit:
    return audit_defect(folder, SUITE, GateSubject, defect)


def test_the_right_rule_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.red == set(), done.messages()
    assert set.union(*WRONG_RULES.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", WRONG_RULES)
def test_a_wrong_rule_is_caught_under_its_own_name(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert done.red == WRONG_RULES[defect], done.messages()


def test_a_subject_that_decides_nothing_is_not_applicable(tmp_path: Path) -> None:
    done = audit(tmp_path, SUITE, "from tests.suites.subjects import BareSubject as factory\n")
    assert {record.outcome for record in done.records} == {"not_applicable"}
