"""Mutants of streaming large models and of training by several processes."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.scaling import ScalingSubject

MEMORY = "test_a_longer_model_takes_no_more_memory"
WRITTEN = "test_every_weight_is_written_in_three_values"
COST = "test_a_parameter_of_a_longer_model_costs_no_more"
MEMORY_1B = "test_a_billion_parameters_fit"
COST_1B = "test_a_parameter_costs_the_same_at_a_billion"
TOGETHER = "test_two_processes_reach_the_loss_of_one"

QUICK = Stage("test_scale.py", only="not processes")
LARGE = Stage("test_scale.py", profile="full", props=("small-scale",), only="billion")
LAUNCHED = Stage("test_scale.py", only="processes")

FAMILIES = (
    family_of_words(
        "scale",
        QUICK,
        lambda words, _: ScalingSubject(words),
        {MEMORY: "A.scale-memory", WRITTEN: "A.scale-memory", COST: "A.scale-cost"},
        {
            "holds the whole model": (MEMORY,),
            "cost grows with the square": (COST,),
            "a tensor left out": (WRITTEN,),
            "weights as they were": (WRITTEN,),
        },
    ),
    family_of_words(
        "scale-large",
        LARGE,
        lambda words, _: ScalingSubject(words),
        {MEMORY_1B: "A.scale-memory-1b", COST_1B: "A.scale-cost-1b"},
        {
            "holds the whole model": (MEMORY_1B,),
            "cost grows with the square": (COST_1B,),
        },
    ),
    family_of_words(
        "scale-processes",
        LAUNCHED,
        lambda words, _: ScalingSubject(words),
        {TOGETHER: "A.scale-data-parallel"},
        {
            "gradients not added up": (TOGETHER,),
            "one share for all": (TOGETHER,),
            "moments forgotten": (TOGETHER,),
        },
    ),
)
