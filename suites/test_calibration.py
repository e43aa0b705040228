"""Calibration: second moments of the inputs change the codes, and the weighted error falls for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.evidence import Evidence
from harness.oracles import quantization as oracle
from harness.subject import QuantizesWeights, Subject, WeightVariant, require
from suites.strategies import WeightRecipe, gaussian_matrix, weight_recipes
from suites.variants import of_calibrated_rules
from suites.weights import CONTINUOUS, assert_search_is_exact, exact, multiplier, quantize, rejected, resolution


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
def test_calibration_lowers_the_weighted_error(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """With skewed second moments the codes change, stay exact under the new objective, and the weighted error falls."""
    weight = gaussian_matrix(16, 2 * (variant.group_size or 64) + 5, seed)
    h = gaussian_matrix(1, weight.shape[1], seed + 1)[0].mul(2).exp()
    plain, calibrated = (quantize(subject, weight, variant, moments) for moments in (None, h))
    assert not torch.equal(plain.codes, calibrated.codes)
    assert_search_is_exact(weight, calibrated, variant, h)
    errors = []
    for quantized in (plain, calibrated):
        restored = exact(require(subject, QuantizesWeights).dequantize(quantized, variant))
        errors.append(oracle.weighted_error(exact(weight), restored, variant, exact(h)).sum())
    evidence.figure("weighted_error_ratio", errors[1] / errors[0])
    assert errors[1] < errors[0]


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
def test_calibrated_scale_is_the_weighted_least_squares_scale(
    subject: Subject, variant: WeightVariant, seed: int
) -> None:
    weight = gaussian_matrix(8, 2 * (variant.group_size or 64) + 5, seed)
    h = gaussian_matrix(1, weight.shape[1], seed + 1)[0].mul(2).exp()
    quantized = quantize(subject, weight, variant, h)
    expected = oracle.least_squares_scale(exact(weight), quantized.codes.numpy(), variant, exact(h))
    tolerance = resolution(weight, quantized, variant)
    np.testing.assert_allclose(multiplier(subject, quantized), expected, rtol=tolerance, atol=0)


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
@given(recipe=weight_recipes(kinds=CONTINUOUS), exponent=st.integers(-20, 20))
def test_equal_second_moments_are_no_calibration(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe, exponent: int
) -> None:
    weight = recipe.build(variant)
    plain = quantize(subject, weight, variant)
    uniform = quantize(subject, weight, variant, torch.full((weight.shape[1],), 2.0**exponent))
    assert torch.equal(uniform.codes, plain.codes)
    assert torch.equal(uniform.scale, plain.scale)


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
def test_features_that_are_never_active_do_no_harm(subject: Subject, variant: WeightVariant, seed: int) -> None:
    """A second moment of 0 for some features, or for all of them, still gives finite scales and ternary codes."""
    weight = gaussian_matrix(4, 2 * (variant.group_size or 64) + 5, seed)
    partly = (torch.arange(weight.shape[1]) % 3 > 0).float()
    for moments in (partly, torch.zeros_like(partly)):
        quantized = quantize(subject, weight, variant, moments)
        assert torch.isfinite(quantized.scale).all()
        assert set(quantized.codes.flatten().tolist()) <= {-1, 0, 1}


@pytest.mark.criterion("2.calibration", "A.bad-input")
@of_calibrated_rules
@pytest.mark.parametrize("fault", ["nan", "negative", "too-short"])
def test_impossible_second_moments_are_rejected(
    subject: Subject, variant: WeightVariant, fault: str, seed: int
) -> None:
    weight = gaussian_matrix(3, 19, seed)
    moments = torch.ones(18 if fault == "too-short" else 19)
    moments[4] = {"nan": float("nan"), "negative": -1.0, "too-short": 1.0}[fault]
    rejected(quantize, subject, weight, variant, moments)
