"""Mutants of what decides how many weights become zero."""

from harness.mutants.defects import scales, sparsity, weights
from harness.mutants.mutant import Stage, family_of_classes
from harness.mutants.reference.quantizing import ReferenceSubject

CURVE = "test_zero_fraction_follows_the_gaussian_curve"
MONOTONE = "test_a_higher_threshold_never_restores_a_weight"
TOLD_APART = "test_the_size_adaptive_thresholds_are_told_apart"
BAND = "test_searching_rules_stay_inside_the_documented_band"
ERROR = "test_error_on_gaussian_weights_is_the_one_of_the_rule"

FAMILIES = (
    family_of_classes(
        "sparsity",
        Stage("test_sparsity.py"),
        ReferenceSubject,
        {
            "": "1.1.sparsity-injection",
            MONOTONE: "2.sparsity-injection",
            TOLD_APART: "2.sparsity-injection",
            ERROR: "1.2.ternary-quantization",
        },
        {
            weights.ScaledValuesCastToInt8: (CURVE, TOLD_APART, ERROR),
            weights.ThresholdOfMaximum: (CURVE, ERROR),
            weights.StochasticRounding: (ERROR,),
            scales.RootMeanSquareScale: (ERROR,),
            scales.DequantizesWithoutScale: (ERROR,),
            scales.SearchWithoutBand: (BAND,),
            scales.ThresholdOfHalfTheMeanInsteadOfASearch: (BAND,),
            sparsity.TauOfTheDeviation: (CURVE,),
            sparsity.TauAsZeroFraction: (CURVE, ERROR),
            sparsity.TauIgnored: (CURVE, TOLD_APART),
            sparsity.TauInverted: (CURVE, MONOTONE, TOLD_APART),
        },
    ),
)
