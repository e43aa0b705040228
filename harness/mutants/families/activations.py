"""Mutants of the activation quantizer."""

from harness.mutants.defects import activations as defects
from harness.mutants.mutant import Stage, family_of_classes
from harness.mutants.reference.quantizing import ReferenceSubject

NEAREST = "test_codes_are_the_nearest_integers"
RANGE = "test_codes_stay_in_the_declared_range"
ENDS = "test_the_largest_magnitude_reaches_the_end_of_the_range"
TOKENS = "test_a_token_does_not_depend_on_the_others"
SCALING = "test_scaling_a_token_scales_only_its_scale"
NEGATION = "test_negating_a_token_negates_its_codes"
HALF_STEP = "test_error_is_at_most_half_a_step"
GAUSSIAN = "test_the_largest_error_on_gaussian_tokens"
ZERO = "test_a_zero_token_stays_zero_and_alone"
FORMATS = "test_other_float_formats_are_quantized_by_their_values"
BATCH = "test_leading_dimensions_are_only_a_batch"
NOT_FINITE = "test_a_token_that_is_not_finite_does_not_pass_as_numbers"

FAMILIES = (
    family_of_classes(
        "activations",
        Stage("test_activations.py"),
        ReferenceSubject,
        {"": "A.activation-quantization", NOT_FINITE: "A.bad-input"},
        {
            defects.OneScaleForTheBatch: (NEAREST, ENDS, TOKENS, HALF_STEP, GAUSSIAN),
            defects.OneScaleForEachSequence: (BATCH,),
            defects.MinusOneTwentyEightReached: (NEAREST, RANGE, ENDS, NEGATION, HALF_STEP, GAUSSIAN),
            defects.Truncated: (NEAREST, HALF_STEP, GAUSSIAN),
            defects.ScaleClampedAgainstDivisionByZero: (NEAREST, SCALING),
            defects.ZeroTokenDividesByZero: (NEAREST, TOKENS, SCALING, NEGATION, HALF_STEP, ZERO),
            defects.MaximumForAbsmax: (NEAREST, NEGATION, HALF_STEP, GAUSSIAN),
            defects.OutliersClipped: (NEAREST, HALF_STEP, GAUSSIAN),
            defects.SevenBits: (NEAREST, ENDS, HALF_STEP, GAUSSIAN),
            defects.InTheInputsPrecision: (FORMATS,),
            defects.ReciprocalScale: (NEAREST, SCALING, HALF_STEP, GAUSSIAN),
            defects.CodesInFloat: (NEAREST,),
            defects.NotFiniteReplaced: (NOT_FINITE,),
        },
    ),
)
