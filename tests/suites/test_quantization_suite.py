"""Each defect of a weight rule turns its own checks RED, and no others; the right rules turn none."""

from pathlib import Path

import pytest

from tests.suites import weight_defects as defects
from tests.suites.audits import audit_class, checks_in
from tests.suites.reference_subject import ReferenceSubject
from tests.suites.subjects import BareSubject

SUITE = "test_quantization.py"

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

EXPECTED = {
    defects.ScaledValuesCastToInt8: {TIE, CODES, RULE, FORMATS, IDEMPOTENT, SCALING, ZEROS},
    defects.FloatCodes: {CODES, FORMATS},
    defects.BinaryCodes: {TIE, RULE, FORMATS},
    defects.NegativeCodesLost: {TIE, CODES, RULE, FORMATS, NEGATION},
    defects.AtLeastForStrictlyGreater: {TIE},
    defects.HalfEvenForHalfUp: {TIE},
    defects.NegativeSideWithWiderThreshold: {RULE, FORMATS, NEGATION},
    defects.ThresholdOfMaximum: {RULE, FORMATS},
    defects.StochasticRounding: {TIE, RULE, FORMATS, NEGATION, COLUMN_ORDER, ROW_ORDER},
    defects.ScaleOfTheSupport: {SCALE, SCALE_EXACT},
    defects.RootMeanSquareScale: {SCALE, SCALE_EXACT},
    defects.HalfPrecisionScale: {SCALE, SCALE_EXACT, EXTREMES, SCALING},
    defects.OneScaleForAllRows: {CODES, RULE, SCALE, SCALE_EXACT, SCALE_FINITE, ROWS},
    defects.RaggedTailDividedByTheWholeGroup: {RULE, FORMATS, SCALE, SCALE_EXACT},
    defects.RaggedTailTakesTheScaleBefore: {SCALE, SCALE_EXACT, TAIL},
    defects.ScaleWithFloor: {SCALE, SCALE_FINITE, EXTREMES, SCALING},
    defects.OneForTheScaleOfZeroBlocks: {SCALE, SCALE_FINITE, SCALING},
    defects.ZeroBlocksBecomeNaN: {SCALE, SCALE_FINITE, IDEMPOTENT, LAYOUT, ZEROS},
    defects.MeanInSinglePrecision: {EXTREMES},
    defects.MeanInTheWeightsPrecision: {SCALE_EXACT},
    defects.ScaleOfAnotherRow: {IDEMPOTENT, SCALE, SCALE_EXACT, SCALE_FINITE, ROWS, ROW_ORDER},
    defects.DequantizesWithoutScale: {PRODUCT},
    defects.GroupScalesTiled: {PRODUCT, IDEMPOTENT},
    defects.SearchWithoutBand: {RULE, FORMATS},
    defects.SearchWithoutFloor: {RULE, FORMATS},
    defects.ThresholdOfHalfTheMeanInsteadOfASearch: {RULE, FORMATS},
    defects.SearchWithAbsmeanScale: {SCALE, SCALE_EXACT},
    defects.LayoutIgnored: {LAYOUT},
    defects.NaNTakenForZero: {NOT_FINITE},
    defects.OnlyNaNRejected: {NOT_FINITE},
    defects.VectorTakenForAMatrix: {NO_MATRIX},
}


def test_the_right_rules_pass_every_check(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, ReferenceSubject)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    assert done.with_outcome("passed") >= {f"{CODES}[threshold-channel]", f"{CODES}[absmean-tensor]"}


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, defect: type) -> None:
    done = audit_class(tmp_path, SUITE, defect)
    assert done.red == EXPECTED[defect], done.messages()


def test_a_weight_that_quantizing_changes_is_noticed(tmp_path: Path) -> None:
    """Which other checks notice depends on what they compare; the one that is about it must."""
    assert LAYOUT in audit_class(tmp_path, SUITE, defects.ChangesItsInput, only=LAYOUT).red


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_subject_that_quantizes_no_weights_is_not_applicable(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}
