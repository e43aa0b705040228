"""Mutants of the rule that decides gates, success and recovery."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.gates import GateSubject

INSIDE = "test_a_figure_at_its_limit_and_inside_it_passes"
OUTSIDE = "test_a_figure_just_outside_its_limit_fails_that_gate_alone"
EXACT = "test_exactly_the_allowed_drop_passes"
DROP = "test_the_configured_drop_is_the_limit"
TARGET = "test_the_configured_compression_target_is_the_limit"
MISSING = "test_a_figure_that_was_not_measured_never_passes"
SUCCESS = "test_success_is_every_gate_and_a_reproduced_output"
TRIGGER = "test_recovery_starts_strictly_above_the_trigger"
BROKEN = "test_a_model_that_gives_no_perplexity_is_not_left_as_it_is"

FAMILIES = (
    family_of_words(
        "gates",
        Stage("test_quality_gates.py"),
        lambda words, _: GateSubject(words),
        {
            "": "2.quality-gates",
            EXACT: "3.max-accuracy-drop",
            DROP: "3.max-accuracy-drop",
            TARGET: "3.compression-target",
            TRIGGER: "3.fine-tune-trigger",
            BROKEN: "3.fine-tune-trigger",
        },
        {
            "the limit itself fails": (INSIDE, OUTSIDE, EXACT, DROP, SUCCESS),
            "changes in floating point": (INSIDE, EXACT, DROP, SUCCESS, TRIGGER),
            "change of either sign counts": (INSIDE,),
            "relative to the compressed model": (INSIDE, OUTSIDE, EXACT, DROP, SUCCESS, TRIGGER),
            "99 % will do": (OUTSIDE, SUCCESS),
            "drop fixed at 10 %": (EXACT, DROP),
            "target fixed at 8": (TARGET,),
            "missing passes": (MISSING, SUCCESS),
            "comparisons the wrong way round": (MISSING,),
            "success whatever the gates say": (OUTSIDE, MISSING, SUCCESS),
            "success is most of the gates": (OUTSIDE, MISSING, SUCCESS),
            "success without reproduction": (SUCCESS,),
            "recovery at the trigger": (TRIGGER,),
            "trigger fixed at 5 %": (TRIGGER,),
            "NaN starts no recovery": (BROKEN,),
        },
    ),
)
