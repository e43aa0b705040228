"""Each way to log a compression wrongly turns the checks of its own name RED, and no others."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit_defect, checks_in
from tests.suites.tracking_subject import TrackingSubject

SUITE = "test_tracking.py"
NINETEEN = "test_a_run_logs_the_nineteen_metrics_once_and_nothing_else"
SUMMARY = "test_the_summary_of_the_phase_says_the_same"
ABSENT = "test_what_was_not_measured_is_absent"
SERVER = "test_a_server_that_does_not_answer_stops_nothing"
SIZES = "test_sizes_and_counts_are_those_of_the_files"
QUALITY = "test_quality_is_that_of_the_models"
TAKEN_BACK = "test_recovery_is_told_by_what_it_took_back"
ARTEFACTS = "test_the_artefacts_are_as_they_are_said_to_be"

DEFECTS = {
    "one metric too few": {NINETEEN, TAKEN_BACK},
    "a record that breaks off": {NINETEEN, SERVER},
    "a summary of its own": {SUMMARY},
    "zeros for what was not measured": {ABSENT},
    "silent about the server": {SERVER},
    "sizes by estimate": {SIZES},
    "perplexity on another text": {QUALITY},
    "recovery by default": {TAKEN_BACK},
    "dequantization by default": {ARTEFACTS},
}


def run(folder: Path, defect: str) -> Audit:
    return audit_defect(folder, SUITE, TrackingSubject, defect)


def test_a_careful_tracker_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.red == set(), done.messages()
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_careless_one_is_caught_under_its_own_name(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert done.red == DEFECTS[defect], done.messages()
