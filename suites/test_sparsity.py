"""Sparsity: what a threshold does to Gaussian weights, against the closed form, and the error that each rule leaves.

The threshold (tau, in units of mean|W|) and the zero fraction that it causes are two different figures: tau = 0.05 to
0.20 zeroes 3 to 13 % of Gaussian weights, and it takes tau = 0.5 to zero 31 %.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float32
from torch import Tensor

from harness.evidence import Evidence
from harness.oracles import gaussian
from harness.oracles.quantization import ZERO_FRACTION_BAND
from harness.subject import Subject, WeightVariant
from suites.strategies import WeightRecipe, gaussian_matrix, weight_recipes
from suites.variants import of_known_rules, of_searched_rule, of_threshold_rule
from suites.weights import dequantize, exact, quantize

SIZE_ADAPTIVE_TAUS: Final = (0.05, 0.10, 0.15, 0.20)
TAUS: Final = (*SIZE_ADAPTIVE_TAUS, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50)
ROWS, COLUMNS = 256, 2048


def zero_fraction(subject: Subject, variant: WeightVariant, seed: int) -> float:
    """Share of zero codes over half a million standard normal weights."""
    return zeros_of(subject, variant, gaussian_matrix(ROWS, COLUMNS, seed))


def zeros_of(subject: Subject, variant: WeightVariant, weight: Float32[Tensor, "out in"]) -> float:
    return float((quantize(subject, weight, variant).codes == 0).double().mean())


@pytest.mark.criterion("1.1.sparsity-injection", "1.2.sparsity-injection")
@of_threshold_rule
def test_zero_fraction_follows_the_gaussian_curve(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """P(|w| < tau mean|w|) = erf(tau / sqrt(pi)), within five standard errors of the sample and of its mean|w|."""
    measured = [zero_fraction(subject, replace(variant, tau=tau), seed) for tau in TAUS]
    expected = [gaussian.zero_fraction(tau) for tau in TAUS]
    for tau, fraction in zip(SIZE_ADAPTIVE_TAUS, measured, strict=False):
        evidence.figure(f"gaussian_zero_fraction_at_{tau:.2f}", fraction)
    evidence.figure("gaussian_curve_error", max(abs(m - e) for m, e in zip(measured, expected, strict=True)))
    evidence.attach(
        f"zero-fraction-{variant.id}",
        {
            "plot": "line",
            "title": f"Zero fraction of Gaussian weights ({variant.id})",
            "x": list(TAUS),
            "y": {"measured": measured, "erf(tau / sqrt(pi))": expected},
            "x_label": "threshold tau (units of mean|W|)",
            "y_label": "fraction of zero codes",
        },
    )
    for tau, fraction, probability in zip(TAUS, measured, expected, strict=True):
        sampling = 5 * math.sqrt(probability * (1 - probability) / (ROWS * COLUMNS))
        assert abs(fraction - probability) <= sampling + 1 / weights_per_scale(variant), f"tau = {tau}"


def weights_per_scale(variant: WeightVariant) -> int:
    """How many weights share a scale; a mean|W| estimated from n weights shifts Gaussian figures by some 1/n."""
    if variant.granularity == "group" and variant.group_size is not None:
        return min(variant.group_size, COLUMNS)
    return COLUMNS if variant.granularity == "channel" else ROWS * COLUMNS


@pytest.mark.criterion("2.sparsity-injection", "1.2.sparsity-injection")
@of_threshold_rule
@given(recipe=weight_recipes(), taus=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=4).map(sorted))
def test_a_higher_threshold_never_restores_a_weight(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe, taus: list[float]
) -> None:
    """Not just no fewer zeros: a weight that a threshold zeroed stays zero at every higher one."""
    weight = recipe.build(variant)
    codes = [quantize(subject, weight, replace(variant, tau=tau)).codes for tau in taus]
    for lower, higher in pairwise(codes):
        assert not (higher.bool() & ~lower.bool()).any()


@pytest.mark.criterion("2.sparsity-injection")
@of_threshold_rule
def test_the_size_adaptive_thresholds_are_told_apart(subject: Subject, variant: WeightVariant, seed: int) -> None:
    """Each step from 0.05 to 0.20 zeroes more weights: the threshold reaches the quantizer."""
    fractions = [zero_fraction(subject, replace(variant, tau=tau), seed) for tau in SIZE_ADAPTIVE_TAUS]
    assert all(low < high for low, high in pairwise(fractions)), fractions


@pytest.mark.criterion("1.1.sparsity-injection", "1.2.sparsity-injection", "2.sparsity-injection")
@of_searched_rule
def test_searching_rules_stay_inside_the_documented_band(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """5-45 % zeros, whatever the search prefers, also where tau asks for less or the weights for more.

    Nearly equal magnitudes are best served by no zeros at all, cubes of Gaussian ones by far more than 45 %.
    """
    low, high = ZERO_FRACTION_BAND
    gaussian_weights = gaussian_matrix(ROWS, COLUMNS, seed)
    few, many = gaussian_weights.sign() + 0.01 * gaussian_weights, gaussian_weights**3
    settings = [*((tau, gaussian_weights) for tau in (0.0, *SIZE_ADAPTIVE_TAUS)), (0.0, few), (0.0, many)]
    fractions = [zeros_of(subject, replace(variant, tau=tau), weights) for tau, weights in settings]
    evidence.figure(f"gaussian_zero_fraction_{variant.id}", fractions[0])
    assert all(low <= fraction <= high for fraction in fractions), fractions


@pytest.mark.criterion("1.2.ternary-quantization")
@of_known_rules
def test_error_on_gaussian_weights_is_the_one_of_the_rule(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """Relative squared error against the closed form: threshold 0.1 0.327, absmean 0.263, optimal 0.190.

    Slack: five standard errors of a mean of squared normals, and 2/n for scales fitted to n weights.
    """
    weight = gaussian_matrix(ROWS, COLUMNS, seed)
    restored = dequantize(subject, weight, variant)
    measured = float(((exact(restored) - exact(weight)) ** 2).sum() / (exact(weight) ** 2).sum())
    expected = gaussian.rule_relative_error(
        variant.rule, variant.scale_rule, variant.tau or 0.0, float(ZERO_FRACTION_BAND[1])
    )
    evidence.figure(f"gaussian_relative_error_{variant.id}", measured)
    slack = 5 * math.sqrt(2 / weight.numel()) + 2 / weights_per_scale(variant)
    assert abs(measured - expected) <= slack, f"{measured:.4f}, where the rule gives {expected:.4f}"
