"""Mutants of the layer that trains through the quantizer."""

from harness.mutants.defects import ste as defects
from harness.mutants.mutant import Stage, family_of_classes
from harness.mutants.reference.quantizing import ReferenceSubject

FORWARD = "test_forward_is_the_quantized_layer"
MODES = "test_training_evaluation_and_inference_agree"
BATCH = "test_leading_dimensions_are_only_a_batch"
NO_BIAS = "test_a_layer_without_bias_has_none"
SURROGATE = "test_gradients_are_those_of_the_declared_surrogate"
ZEROED = "test_gradients_reach_weights_that_are_quantized_to_zero"
DIFFERENCES = "test_without_quantization_gradients_are_finite_differences"
ACCUMULATE = "test_gradients_accumulate"
LATENT = "test_the_latent_weight_is_the_full_precision_weight"
STEP = "test_a_step_changes_the_latent_weight_by_exactly_the_update"
FRESH = "test_the_next_forward_uses_the_new_weight"
NAN_FORWARD = "test_nan_does_not_vanish_in_the_forward_pass"
NAN_BACKWARD = "test_nan_does_not_vanish_in_the_backward_pass"

FAMILIES = (
    family_of_classes(
        "ste",
        Stage("test_ste.py"),
        ReferenceSubject,
        {
            "": "1.1.ste-gradients",
            SURROGATE: "1.2.ste-gradient-flow",
            ZEROED: "1.2.ste-gradient-flow",
            DIFFERENCES: "1.2.ste-gradient-flow",
        },
        {
            defects.GradientStopsAtZeroCodes: (SURROGATE, ZEROED),
            defects.ClippedForDeclaredIdentity: (SURROGATE, NAN_BACKWARD),
            defects.IdentityForDeclaredClipped: (SURROGATE,),
            defects.GradientTimesScale: (SURROGATE,),
            defects.BiasGradientLost: (SURROGATE, NAN_BACKWARD),
            defects.InputGradientLost: (SURROGATE,),
            defects.GradientReplacesTheOneBefore: (ACCUMULATE,),
            defects.NaNGradientsZeroed: (NAN_BACKWARD,),
            defects.ActivationsNotQuantized: (FORWARD, MODES, SURROGATE),
            defects.EvaluatesFullPrecision: (MODES,),
            defects.InferenceWithoutBias: (MODES,),
            defects.LastDimensionOnlyOfMatrices: (BATCH,),
            defects.BiasWhereNoneWasGiven: (NO_BIAS,),
            defects.QuantizesAllTheSame: (DIFFERENCES,),
            defects.NaNInputsReplaced: (NAN_FORWARD,),
            defects.NaNOutputsReplaced: (NAN_FORWARD,),
            defects.StaleCodes: (FRESH,),
            defects.StaleCodesInEvaluation: (FRESH,),
            defects.LatentWeightReplaced: (LATENT, STEP, MODES, BATCH, FRESH),
            defects.LatentWeightInHalfPrecision: (LATENT, STEP, FORWARD, SURROGATE, DIFFERENCES),
            defects.LatentWeightClipped: (LATENT, STEP, DIFFERENCES),
            defects.WeightIsNoParameter: (SURROGATE, ZEROED, ACCUMULATE, STEP, FRESH, NAN_BACKWARD),
        },
    ),
)
