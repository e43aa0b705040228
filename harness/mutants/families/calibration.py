"""Mutants of how second moments are measured and used."""

from harness.mutants.defects import calibration, moments
from harness.mutants.mutant import Stage, family_of_classes
from harness.mutants.reference.quantizing import ReferenceSubject

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

FAMILIES = (
    family_of_classes(
        "calibration",
        Stage("test_calibration.py", ("uneven",)),
        ReferenceSubject,
        {"": "2.calibration", IMPOSSIBLE: "A.bad-input", TOO_SHORT: "A.bad-input", NOT_FINITE: "A.bad-input"},
        {
            moments.CalibrationIgnored: (WEIGHTED_ERROR, WEIGHTED_SCALE, REAL_LAYERS),
            moments.CalibratedByTheRoot: (WEIGHTED_ERROR, WEIGHTED_SCALE),
            moments.CalibrationInTheScaleAlone: (WEIGHTED_ERROR,),
            moments.CalibrationInTheThresholdAlone: (WEIGHTED_ERROR, WEIGHTED_SCALE),
            moments.DeadFeaturesDivideByZero: (DEAD,),
            moments.SmoothingNotUndone: (WEIGHTED_ERROR, WEIGHTED_SCALE, EQUAL, REAL_LAYERS),
            moments.ImpossibleMomentsAccepted: (IMPOSSIBLE,),
            calibration.MagnitudesForSquares: (ONE_WINDOW, MEAN),
            calibration.SumsForMeans: (ONE_WINDOW, MEAN),
            calibration.SumsInHalfPrecision: (ONE_WINDOW, MEAN),
            calibration.SmallFeaturesPreferred: (ONE_WINDOW, MEAN, REAL_LAYERS),
            calibration.LastSampleAlone: (MEAN,),
            calibration.FirstBlockAlone: (ONE_WINDOW,),
            calibration.NaNActivationsIgnored: (NOT_FINITE,),
            calibration.PrefixTokenCounted: (ONE_WINDOW, MEAN),
            calibration.TokensShuffled: (ONE_WINDOW, MEAN),
            calibration.ShortTextsPadded: (TOO_SHORT,),
            calibration.SeedIgnored: (SEED,),
            calibration.SamplesNotReproducible: (SEED,),
            calibration.HooksLeftBehind: (UNTOUCHED,),
            calibration.ModelLeftInEvaluation: (UNTOUCHED,),
        },
    ),
)
