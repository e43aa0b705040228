"""Each way to let a wrong handoff through turns the checks of its own name RED, and no others."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit_defect, checks_in
from tests.suites.folder_subjects import FolderSubject

SUITE = "test_handoff.py"
BARE = "test_a_bare_folder_is_accepted_and_marked"
TAKEN = "test_a_manifest_that_is_right_is_taken_as_it_is"
MISSING = "test_a_missing_field_is_named"
THINKING = "test_thinking_tokens_need_not_be_declared"
CORRUPT = "test_a_corrupt_field_is_named"
NOT_JSON = "test_a_manifest_that_is_not_json_is_named"
USED = "test_a_model_with_a_wrong_manifest_is_not_compressed"
ACCEPTED = "test_the_output_is_accepted_with_what_it_came_from"
LISTED = "test_every_file_is_listed_with_its_digest"
FLIPPED = "test_a_flipped_bit_in_any_file_is_detected"
GONE = "test_a_missing_file_is_detected"
FIELDS = "test_a_missing_or_corrupt_field_of_the_output_is_named"
FALSE = "test_a_false_statement_about_the_output_is_detected"
METRICS = "test_metrics_are_what_the_files_hold"
GATES = "test_gates_and_success_follow_from_what_was_measured"
SCALES = "test_scales_are_where_the_manifest_says"

DEFECTS = {
    "made-up manifest not marked": {BARE},
    "manifest not taken over": {TAKEN},
    "missing fields accepted": {MISSING},
    "thinking tokens required": {THINKING},
    "model_path not validated": {CORRUPT},
    "vocabulary_size not validated": {CORRUPT, USED},
    "thinking_tokens not validated": {CORRUPT},
    "metrics not validated": {CORRUPT},
    "metricks not validated": {CORRUPT},
    "unreadable manifests pass for missing ones": {NOT_JSON},
    "manifests not named": {NOT_JSON, GONE},
    "manifest not looked at": {USED, ACCEPTED},
    "a file not listed": {LISTED},
    "digests not compared": {FLIPPED, FALSE},
    "missing files accepted": {GONE},
    "corrupt output accepted": {FIELDS, FALSE},
    "false statements accepted": {FALSE},
    "metrics by default": {METRICS},
    "success with a gate missed": {GATES},
    "gates that do not follow": {GATES},
    "scales elsewhere": {SCALES},
}


def run(folder: Path, defect: str) -> Audit:
    return audit_defect(folder, SUITE, FolderSubject, defect)


def test_a_careful_pipeline_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.red == set(), done.messages()
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_careless_one_is_caught_under_its_own_name(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert done.red == DEFECTS[defect], done.messages()
