"""Each defect in measuring or using second moments turns its own checks RED, and no others; the right way none."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from suites.small_models import save_random_llama
from tests.suites import calibration_defects, weight_defects
from tests.suites.audits import audit_class, checks_in
from tests.suites.reference_subject import ReferenceSubject
from tests.suites.subjects import BareSubject

SUITE = "test_calibration.py"

WEIGHTED_ERROR = "test_calibration_lowers_the_weighted_error"
WEIGHTED_SCALE = "test_calibrated_scale_is_the_weighted_least_squares_scale"
EQUAL = "test_equal_second_moments_are_no_calibration"
DEAD = "test_features_that_are_never_active_do_no_harm"
IMPOSSIBLE = "test_impossible_second_moments_are_rejected"
ONE_WINDOW = "test_second_moments_of_one_window_are_the_mean_squares_of_its_inputs"
MEAN = "test_second_moments_are_the_mean_over_windows_of_the_text"
SEED = "test_the_seed_decides_which_samples_are_drawn"
UNTOUCHED = "test_calibration_leaves_the_model_as_it_was"
TOO_SHORT = "test_a_text_too_short_for_one_sample_is_rejected"
NOT_FINITE = "test_activations_that_are_not_finite_do_not_pass_as_numbers"
REAL_LAYERS = "test_calibration_lowers_the_output_error_of_real_layers"

EXPECTED = {
    weight_defects.CalibrationIgnored: {WEIGHTED_ERROR, WEIGHTED_SCALE, REAL_LAYERS},
    weight_defects.CalibratedByTheRoot: {WEIGHTED_ERROR, WEIGHTED_SCALE},
    weight_defects.CalibrationInTheScaleAlone: {WEIGHTED_ERROR},
    weight_defects.CalibrationInTheThresholdAlone: {WEIGHTED_ERROR, WEIGHTED_SCALE},
    weight_defects.DeadFeaturesDivideByZero: {DEAD},
    weight_defects.SmoothingNotUndone: {WEIGHTED_ERROR, WEIGHTED_SCALE, EQUAL, REAL_LAYERS},
    weight_defects.ImpossibleMomentsAccepted: {IMPOSSIBLE},
    calibration_defects.MagnitudesForSquares: {ONE_WINDOW, MEAN},
    calibration_defects.SumsForMeans: {ONE_WINDOW, MEAN},
    calibration_defects.SumsInHalfPrecision: {ONE_WINDOW, MEAN},
    calibration_defects.SmallFeaturesPreferred: {ONE_WINDOW, MEAN, REAL_LAYERS},
    calibration_defects.LastSampleAlone: {MEAN},
    calibration_defects.FirstBlockAlone: {ONE_WINDOW},
    calibration_defects.NaNActivationsIgnored: {NOT_FINITE},
    calibration_defects.PrefixTokenCounted: {ONE_WINDOW, MEAN},
    calibration_defects.TokensShuffled: {ONE_WINDOW, MEAN},
    calibration_defects.ShortTextsPadded: {TOO_SHORT},
    calibration_defects.SeedIgnored: {SEED},
    calibration_defects.SamplesNotReproducible: {SEED},
    calibration_defects.HooksLeftBehind: {UNTOUCHED},
    calibration_defects.ModelLeftInEvaluation: {UNTOUCHED},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, some of whose features are much larger than others, as in trained ones."""
    return save_random_llama(tmp_path_factory.mktemp("models") / "uneven", layers=1, change=make_uneven)


def make_uneven(model: PreTrainedModel) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layernorm.weight"):
                parameter.copy_(torch.linspace(-2, 2, len(parameter)).exp())


def test_the_right_calibration_passes_every_check(tmp_path: Path, model: Path) -> None:
    done = audit_class(tmp_path, SUITE, ReferenceSubject, [model])
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, model: Path, defect: type) -> None:
    done = audit_class(tmp_path, SUITE, defect, [model])
    assert done.red == EXPECTED[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_subject_that_calibrates_nothing_is_not_applicable(tmp_path: Path, model: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject, [model])
    assert {record.outcome for record in done.records} == {"not_applicable"}
