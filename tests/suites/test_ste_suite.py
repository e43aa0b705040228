"""Each defect of a straight-through layer turns its own checks RED, and no others; the right layers turn none."""

from pathlib import Path

import pytest

from tests.suites import ste_defects as defects
from tests.suites.audits import audit_class, checks_in
from tests.suites.reference_subject import ReferenceSubject
from tests.suites.subjects import BareSubject

SUITE = "test_ste.py"

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

EXPECTED = {
    defects.GradientStopsAtZeroCodes: {SURROGATE, ZEROED},
    defects.ClippedForDeclaredIdentity: {SURROGATE, NAN_BACKWARD},
    defects.IdentityForDeclaredClipped: {SURROGATE},
    defects.GradientTimesScale: {SURROGATE},
    defects.BiasGradientLost: {SURROGATE, NAN_BACKWARD},
    defects.InputGradientLost: {SURROGATE},
    defects.GradientReplacesTheOneBefore: {ACCUMULATE},
    defects.NaNGradientsZeroed: {NAN_BACKWARD},
    defects.ActivationsNotQuantized: {FORWARD, MODES, SURROGATE},
    defects.EvaluatesFullPrecision: {MODES},
    defects.InferenceWithoutBias: {MODES},
    defects.LastDimensionOnlyOfMatrices: {BATCH},
    defects.BiasWhereNoneWasGiven: {NO_BIAS},
    defects.QuantizesAllTheSame: {DIFFERENCES},
    defects.NaNInputsReplaced: {NAN_FORWARD},
    defects.NaNOutputsReplaced: {NAN_FORWARD},
    defects.StaleCodes: {FRESH},
    defects.StaleCodesInEvaluation: {FRESH},
    defects.LatentWeightReplaced: {MODES, BATCH, LATENT, STEP, FRESH},
    defects.LatentWeightInHalfPrecision: {FORWARD, SURROGATE, DIFFERENCES, LATENT, STEP},
    defects.LatentWeightClipped: {DIFFERENCES, LATENT, STEP},
    defects.WeightIsNoParameter: {SURROGATE, ZEROED, ACCUMULATE, STEP, FRESH, NAN_BACKWARD},
}


@pytest.mark.parametrize("subject", [ReferenceSubject, defects.ClippedAsDeclared])
def test_the_right_layer_passes_every_check(tmp_path: Path, subject: type) -> None:
    """With either of the two straight-through estimators, as declared."""
    done = audit_class(tmp_path, SUITE, subject)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, defect: type) -> None:
    done = audit_class(tmp_path, SUITE, defect)
    assert done.red == EXPECTED[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_subject_that_trains_no_layer_is_not_applicable(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}
