"""Each defect of a configuration turns its own checks RED, and no others; the right one turns none."""

from pathlib import Path

import pytest

from tests.suites import configuration_defects as defects
from tests.suites.audits import audit_class, checks_in
from tests.suites.reference_subject import ReferenceSubject
from tests.suites.subjects import BareSubject

SUITE = "test_configuration.py"

DEFAULTS = "test_default_is_the_audits"
TABLE = "test_size_table_holds_up_to_its_boundaries"
ORDER = "test_larger_models_never_get_a_milder_setting"
USER = "test_a_users_value_is_never_overwritten"
USER_EQUAL = "test_a_users_value_wins_even_where_it_equals_another_classs_default"
REFUSED = "test_impossible_values_are_refused"
ACCEPTED = "test_possible_values_are_accepted"
ENDS = "test_values_at_the_ends_of_their_ranges_are_accepted"
UNKNOWN = "test_an_unknown_setting_is_refused"
WRITTEN = "test_a_written_configuration_reads_back_the_same"
TEXT = "test_a_setting_given_as_text_wins_over_the_file"
BAD_FILE = "test_bad_files_and_texts_are_refused"

EXPECTED = {
    defects.OtherDefaults: {DEFAULTS, ENDS},
    defects.BoundaryTakenAsTheSmallerSize: {TABLE},
    defects.LargeTakenForTiny: {TABLE, ORDER},
    defects.UserValueOverwrittenByTheTable: {USER, USER_EQUAL, ENDS},
    defects.DefaultOfAnotherSizeTakenForUnset: {USER_EQUAL},
    defects.NaNAccepted: {REFUSED},
    defects.BooleansTakenForNumbers: {REFUSED},
    defects.EndsOfRangesRefused: {ENDS, TEXT},
    defects.HalfOfEachRangeRefused: {USER, ACCEPTED, WRITTEN, TEXT},
    defects.UnknownSettingsDropped: {UNKNOWN, BAD_FILE},
    defects.WritesResolvedSettings: {WRITTEN},
    defects.FileWinsOverText: {TEXT},
    defects.TextKeptAsText: {TEXT},
    defects.MissingFileTakenForDefaults: {BAD_FILE},
}


def test_the_right_configuration_passes_every_check(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, ReferenceSubject)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, defect: type) -> None:
    done = audit_class(tmp_path, SUITE, defect)
    assert done.red == EXPECTED[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_subject_that_has_no_configuration_is_not_applicable(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}
