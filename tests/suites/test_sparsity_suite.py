"""Each defect of a threshold turns its own checks RED, and no others; the right rules turn none."""

from pathlib import Path

import pytest

from tests.suites import weight_defects as defects
from tests.suites.audits import audit_class, checks_in
from tests.suites.reference_subject import ReferenceSubject
from tests.suites.subjects import BareSubject

SUITE = "test_sparsity.py"

CURVE = "test_zero_fraction_follows_the_gaussian_curve"
MONOTONE = "test_a_higher_threshold_never_restores_a_weight"
TOLD_APART = "test_the_size_adaptive_thresholds_are_told_apart"
BAND = "test_searching_rules_stay_inside_the_documented_band"
ERROR = "test_error_on_gaussian_weights_is_the_one_of_the_rule"

EXPECTED = {
    defects.ScaledValuesCastToInt8: {CURVE, TOLD_APART, ERROR},
    defects.ThresholdOfMaximum: {CURVE, ERROR},
    defects.StochasticRounding: {ERROR},
    defects.RootMeanSquareScale: {ERROR},
    defects.DequantizesWithoutScale: {ERROR},
    defects.SearchWithoutBand: {BAND},
    defects.ThresholdOfHalfTheMeanInsteadOfASearch: {BAND},
    defects.TauOfTheDeviation: {CURVE},
    defects.TauAsZeroFraction: {CURVE, ERROR},
    defects.TauIgnored: {CURVE, TOLD_APART},
    defects.TauInverted: {CURVE, MONOTONE, TOLD_APART},
}


def test_the_right_rules_pass_every_check(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, ReferenceSubject)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, defect: type) -> None:
    done = audit_class(tmp_path, SUITE, defect)
    assert done.red == EXPECTED[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_subject_that_quantizes_no_weights_is_not_applicable(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}
