"""Mutants of streaming large models and of training by several processes."""

from collections.abc import Mapping
from dataclasses import replace

from harness.mutants.mutant import Defect, Entry, Family, Stage, family_of_words
from harness.mutants.reference.scaling import ScalingSubject

MEMORY = "test_a_longer_model_takes_no_more_memory"
WRITTEN = "test_every_weight_is_written_in_three_values"
COST = "test_a_parameter_of_a_longer_model_costs_no_more"
MEMORY_1B = "test_a_billion_parameters_fit"
COST_1B = "test_a_parameter_costs_the_same_at_a_billion"
TOGETHER = "test_two_processes_reach_the_loss_of_one"

SMALL = Stage("test_scale.py", profile="full", props=("small-scale",), only=WRITTEN, judges_timings=True)
LONGER, LARGE, LAUNCHED = (replace(SMALL, only=each) for each in ("longer", "billion", "processes"))
"""Checks that start processes."""


def family(area: str, stage: Stage, criteria: Mapping[str, str], table: Mapping[str, Entry]) -> Family:
    """Defects of the one subject of this module."""
    return replace(
        family_of_words(area, stage, lambda words, _: ScalingSubject(words), criteria, table), clean_name="scale"
    )


FAMILIES = (
    family(
        "scale",
        SMALL,
        {MEMORY: "A.scale-memory", WRITTEN: "A.scale-memory", COST: "A.scale-cost"},
        {
            "a tensor left out": (WRITTEN,),
            "weights as they were": (WRITTEN,),
            "holds the whole model": Defect((MEMORY,), LONGER),
            "cost grows with the square": Defect((COST,), LONGER),
        },
    ),
    family(
        "scale-large",
        LARGE,
        {MEMORY_1B: "A.scale-memory-1b", COST_1B: "A.scale-cost-1b"},
        {
            "holds the whole model": (MEMORY_1B,),
            "cost grows with the square": (COST_1B,),
        },
    ),
    family(
        "scale-processes",
        LAUNCHED,
        {TOGETHER: "A.scale-data-parallel"},
        {
            "gradients not added up": (TOGETHER,),
            "one share for all": (TOGETHER,),
            "moments forgotten": (TOGETHER,),
        },
    ),
)
