"""Mutants of fallbacks and of the warm-up of fine-tuning."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.folders import FolderSubject

NAMED = "test_a_fallback_that_was_taken_is_named"
SHORTFALL = "test_a_shortfall_says_what_was_used_instead"
NONE = "test_no_fallback_is_named_where_none_was_taken"
RATE = "test_the_rate_rises_to_its_full_value_for_every_parameter"
LOSS = "test_the_loss_falls"

FAMILIES = (
    family_of_words(
        "fallbacks",
        Stage("test_fallbacks.py", props=("one-step",)),
        lambda words, _: FolderSubject(words),
        {"": "2.fallback-chains"},
        {
            "silent about calibration_text": (NAMED,),
            "silent about evaluation_text": (NAMED,),
            "silent about calibration_samples": (NAMED, SHORTFALL),
            "silent about context_length": (NAMED, SHORTFALL),
            "silent about recovery": (NAMED,),
            "fallbacks without figures": (SHORTFALL,),
            "every fallback named always": (NONE,),
        },
    ),
    family_of_words(
        "fine-tuning",
        Stage("test_fine_tuning.py", props=("little-training",)),
        lambda words, _: FolderSubject(words),
        {"": "2.fine-tuning-warmup"},
        {
            "warm-up that nothing reads": (RATE,),
            "warm-up too long": (RATE,),
            "warm-up that never ends": (RATE,),
            "warm-up of some parameters": (RATE,),
            "training without an effect": (RATE, LOSS),
            "training uphill": (LOSS,),
        },
    ),
)
