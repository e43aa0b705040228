"""Mutants of the two handoffs."""

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.folders import FolderSubject

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

FAMILIES = (
    family_of_words(
        "handoff",
        Stage("test_handoff.py"),
        lambda words, _: FolderSubject(words),
        {
            "": "2.phase5-handoff",
            **dict.fromkeys((BARE, TAKEN, MISSING, THINKING, CORRUPT, NOT_JSON, USED), "2.phase3-handoff"),
        },
        {
            "made-up manifest not marked": (BARE,),
            "manifest not taken over": (TAKEN,),
            "missing fields accepted": (MISSING,),
            "thinking tokens required": Defect((THINKING,), crashes=True),
            "model_path not validated": (CORRUPT,),
            "vocabulary_size not validated": (CORRUPT, USED),
            "thinking_tokens not validated": (CORRUPT,),
            "metrics not validated": (CORRUPT,),
            "metricks not validated": (CORRUPT,),
            "unreadable manifests pass for missing ones": (NOT_JSON,),
            "manifests not named": (NOT_JSON, GONE),
            "manifest not looked at": (USED, ACCEPTED),
            "a file not listed": (LISTED,),
            "digests not compared": (FLIPPED, FALSE),
            "missing files accepted": (GONE,),
            "corrupt output accepted": (FIELDS, FALSE),
            "false statements accepted": (FALSE,),
            "metrics by default": (METRICS,),
            "success with a gate missed": (GATES,),
            "gates that do not follow": (GATES,),
            "scales elsewhere": (SCALES,),
        },
    ),
)
