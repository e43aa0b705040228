"""Mutants of the weight quantizer: codes, what it accepts, scales and the search."""

from harness.mutants.defects import scales, weights
from harness.mutants.mutant import Stage, family_of_classes
from harness.mutants.reference.quantizing import ReferenceSubject

CODES = "test_codes_are_ternary_int8_and_never_vanish"
RULE = "test_codes_follow_the_declared_rule"
TIE = "test_a_tie_goes_where_the_tie_rule_says"
IDEMPOTENT = "test_quantizing_the_quantized_weight_changes_no_code"
SCALE = "test_scales_follow_the_declared_definition"
SCALE_EXACT = "test_scales_are_exact_to_float32"
SCALE_FINITE = "test_every_block_has_one_finite_scale"
PRODUCT = "test_dequantized_weight_is_scale_times_codes"
TAIL = "test_a_ragged_tail_is_a_group_of_its_own"
ROWS = "test_rows_are_quantized_independently"
SCALING = "test_scaling_the_weight_scales_only_the_scale"
NEGATION = "test_negating_the_weight_negates_the_codes"
ROW_ORDER = "test_permuting_rows_permutes_codes_and_scales"
COLUMN_ORDER = "test_permuting_columns_inside_a_block_permutes_its_codes"
ZEROS = "test_zero_blocks_stay_exactly_zero"
EXTREMES = "test_extreme_magnitudes_keep_their_codes"
LAYOUT = "test_memory_layout_does_not_matter"
FORMATS = "test_every_float_format_is_quantized_by_its_exact_values"
NOT_FINITE = "test_a_weight_that_is_not_finite_is_rejected"
NO_MATRIX = "test_a_weight_that_is_not_a_matrix_is_rejected"

STAGE = Stage("test_quantization.py")
CRITERIA = {
    "": "1.1.ternary-quantization",
    SCALE: "1.1.per-channel-scaling",
    SCALE_EXACT: "1.2.per-channel-scaling",
    SCALE_FINITE: "2.per-channel-scaling",
    PRODUCT: "1.1.per-channel-scaling",
    TAIL: "1.1.per-channel-scaling",
    ROWS: "1.1.per-channel-scaling",
    SCALING: "1.1.per-channel-scaling",
    ROW_ORDER: "1.1.per-channel-scaling",
    COLUMN_ORDER: "1.1.per-channel-scaling",
    ZEROS: "1.1.per-channel-scaling",
    NOT_FINITE: "A.bad-input",
    NO_MATRIX: "A.bad-input",
}

FAMILIES = (
    family_of_classes(
        "quantizer",
        STAGE,
        ReferenceSubject,
        CRITERIA,
        {
            weights.ScaledValuesCastToInt8: (TIE, CODES, RULE, FORMATS, IDEMPOTENT, SCALING, ZEROS),
            weights.FloatCodes: (CODES, FORMATS),
            weights.BinaryCodes: (TIE, RULE, FORMATS),
            weights.NegativeCodesLost: (TIE, CODES, RULE, FORMATS, NEGATION),
            weights.AtLeastForStrictlyGreater: (TIE,),
            weights.HalfEvenForHalfUp: (TIE,),
            weights.NegativeSideWithWiderThreshold: (RULE, FORMATS, NEGATION),
            weights.ThresholdOfMaximum: (RULE, FORMATS),
            weights.StochasticRounding: (TIE, RULE, FORMATS, NEGATION, COLUMN_ORDER, ROW_ORDER),
            weights.LayoutIgnored: (LAYOUT,),
            weights.NaNTakenForZero: (NOT_FINITE,),
            weights.OnlyNaNRejected: (NOT_FINITE,),
            weights.VectorTakenForAMatrix: (NO_MATRIX,),
            weights.ChangesItsInput: (
                LAYOUT,
                RULE,
                FORMATS,
                EXTREMES,
                NEGATION,
                COLUMN_ORDER,
                ROW_ORDER,
                ROWS,
                SCALE,
                SCALE_EXACT,
                SCALING,
            ),
        },
    ),
    family_of_classes(
        "scales",
        STAGE,
        ReferenceSubject,
        CRITERIA,
        {
            scales.ScaleOfTheSupport: (SCALE, SCALE_EXACT),
            scales.RootMeanSquareScale: (SCALE, SCALE_EXACT),
            scales.HalfPrecisionScale: (SCALE, SCALE_EXACT, EXTREMES, SCALING),
            scales.OneScaleForAllRows: (ROWS, CODES, RULE, SCALE, SCALE_EXACT, SCALE_FINITE),
            scales.ScaleWithFloor: (SCALE, SCALE_FINITE, EXTREMES, SCALING),
            scales.OneForTheScaleOfZeroBlocks: (SCALE, SCALE_FINITE, SCALING),
            scales.ZeroBlocksBecomeNaN: (ZEROS, SCALE, SCALE_FINITE, IDEMPOTENT, LAYOUT),
            scales.MeanInSinglePrecision: (EXTREMES,),
            scales.MeanInTheWeightsPrecision: (SCALE_EXACT,),
            scales.ScaleOfAnotherRow: (ROW_ORDER, ROWS, IDEMPOTENT, SCALE, SCALE_EXACT, SCALE_FINITE),
            scales.DequantizesWithoutScale: (PRODUCT,),
            scales.GroupScalesTiled: (PRODUCT, IDEMPOTENT),
            scales.SearchWithoutBand: (RULE, FORMATS),
            scales.SearchWithoutFloor: (RULE, FORMATS),
            scales.ThresholdOfHalfTheMeanInsteadOfASearch: (RULE, FORMATS),
            scales.SearchWithAbsmeanScale: (SCALE, SCALE_EXACT),
        },
    ),
    family_of_classes(
        "group-scales",
        STAGE,
        scales.GroupedAbsmean,
        CRITERIA,
        {
            scales.RaggedTailDividedByTheWholeGroup: (SCALE, SCALE_EXACT, RULE, FORMATS),
            scales.RaggedTailTakesTheScaleBefore: (TAIL, SCALE, SCALE_EXACT),
        },
    ),
)
