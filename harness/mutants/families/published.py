"""Mutants that do something else than what was published, and say so."""

from harness.mutants.defects import published
from harness.mutants.mutant import Stage, family_of_classes
from harness.mutants.reference.optimizer import OptimizerSubject

WEIGHTS = "test_weights_are_quantized_as_published"
ACTIVATIONS = "test_activations_are_quantized_as_published"
GRADIENTS = "test_gradients_are_estimated_as_published"
UPDATES = "test_updates_are_made_in_the_published_order"

STAGE = Stage("test_published.py")
CRITERIA = {"": "A.as-published"}

FAMILIES = (
    family_of_classes(
        "published",
        STAGE,
        published.AsPublished,
        CRITERIA,
        {
            published.LeastSquaresScale: (WEIGHTS,),
            published.FourBitActivations: (ACTIVATIONS,),
            published.ClippedEstimator: (GRADIENTS,),
        },
    ),
    family_of_classes(
        "published-updates", STAGE, OptimizerSubject, CRITERIA, {published.FilterLastSubject: (UPDATES,)}
    ),
)
