"""Mutants of the optimizer: gradient filter, orthogonalised updates, AdamW."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.optimizer import OptimizerSubject

GAIN = "test_gain_of_the_filter"
STEPS = "test_three_steps_are_those_of_the_reference"
DECAY = "test_weight_decay_is_decoupled"
ORTHOGONAL = "test_updates_of_hidden_matrices_are_nearly_orthogonal"
SIZE = "test_size_of_the_gradient_does_not_matter_to_a_hidden_matrix"
ROUTES = "test_each_parameter_gets_the_update_of_its_kind"
TIED = "test_tied_parameters_are_updated_once"
CLIP = "test_updates_of_queries_and_keys_are_clipped_per_head"
LATENT = "test_updates_go_to_the_latent_weights"
RATE = "test_a_learning_rate_schedule_reaches_every_parameter"
MATRICES = (STEPS, ORTHOGONAL, SIZE, ROUTES, LATENT)
SOME = "not row and not column and not 0.9-0.5 and not 0.98-2.0"
"""Which shapes and constants a mistake is tried on; the clean optimizer is tried on all."""

FAMILIES = (
    family_of_words(
        "optimizer",
        Stage("test_mugrokfast.py", only=SOME),
        lambda words, _: OptimizerSubject(words),
        {"": "2.mugrokfast"},
        {
            "no filter": (GAIN, STEPS, TIED),
            "average for the gradient": (GAIN, STEPS, TIED),
            "average starts at the gradient": (STEPS, TIED),
            "no look-ahead": (STEPS,),
            "four steps": MATRICES,
            "cubic steps": MATRICES,
            "gradient not normalised": (*MATRICES, CLIP, RATE, DECAY),
            "tall matrices not orthogonalised": MATRICES,
            "scale of the wrong side": MATRICES,
            "moments not corrected": (STEPS, ROUTES, TIED),
            "Muon for every matrix": (ROUTES, TIED),
            "AdamW for everything": (*MATRICES, CLIP),
            "biases left out": (STEPS, ROUTES, RATE, DECAY),
            "tied parameters updated twice": (ROUTES, TIED),
            "no clip": (ROUTES, CLIP),
            "decay through the gradient": (DECAY,),
            "decay of the matrices alone": (DECAY,),
            "weights become codes": (*MATRICES, RATE, DECAY),
            "rate fixed at the start": (RATE,),
            "rate of the hidden matrices alone": (RATE,),
        },
    ),
)
