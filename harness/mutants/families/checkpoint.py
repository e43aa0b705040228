"""Mutants of resuming an interrupted training."""

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.resuming import ResumingSubject

SAME = "test_an_interrupted_training_ends_as_an_uninterrupted_one"
EFFECT = "test_training_changes_what_is_compared"
DAMAGE = "test_damage_is_noticed"
DATA = "test_state_holds_data_alone"

FRESH = Stage("test_checkpoints.py", only="uninterrupted")
"""Resumed in a process of its own, as the suite does it; the other mutants are spared the seconds."""

FAMILIES = (
    family_of_words(
        "checkpoint",
        Stage("test_checkpoints.py", props=("resume-here",)),
        lambda words, _: ResumingSubject(words),
        {"": "2.checkpoints"},
        {
            "optimizer forgotten": (SAME,),
            "random state forgotten": (SAME,),
            "steps taken again": Defect((SAME,), FRESH),
            "training without an effect": (EFFECT,),
            "damage not noticed": (DAMAGE,),
            "pickled": (DATA,),
        },
    ),
)
