"""Mutants of the configuration."""

from harness.mutants.defects import configuration as defects
from harness.mutants.mutant import Defect, Stage, family_of_classes
from harness.mutants.reference.quantizing import ReferenceSubject

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

FAMILIES = (
    family_of_classes(
        "config",
        Stage("test_configuration.py"),
        ReferenceSubject,
        {
            "": "2.size-adaptive",
            DEFAULTS: "3.grokfast-lambda",
            REFUSED: "5.green.configuration-flexibility",
            ACCEPTED: "5.green.configuration-flexibility",
            ENDS: "5.green.configuration-flexibility",
            UNKNOWN: "A.bad-input",
            WRITTEN: "5.green.configuration-flexibility",
            TEXT: "5.green.configuration-flexibility",
            BAD_FILE: "A.bad-input",
        },
        {
            defects.OtherDefaults: (DEFAULTS, ENDS),
            defects.BoundaryTakenAsTheSmallerSize: (TABLE,),
            defects.LargeTakenForTiny: (TABLE, ORDER),
            defects.UserValueOverwrittenByTheTable: (USER, USER_EQUAL, ENDS),
            defects.DefaultOfAnotherSizeTakenForUnset: (USER_EQUAL,),
            defects.NaNAccepted: (REFUSED,),
            defects.BooleansTakenForNumbers: (REFUSED,),
            defects.EndsOfRangesRefused: Defect((ENDS, TEXT), crashes=True),
            defects.HalfOfEachRangeRefused: Defect((ACCEPTED, USER, WRITTEN, TEXT), crashes=True),
            defects.UnknownSettingsDropped: (UNKNOWN, BAD_FILE),
            defects.WritesResolvedSettings: (WRITTEN,),
            defects.FileWinsOverText: (TEXT,),
            defects.TextKeptAsText: (TEXT,),
            defects.MissingFileTakenForDefaults: (BAD_FILE,),
        },
    ),
)
