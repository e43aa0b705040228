"""The closed forms against the figures of the literature, and against integration over the density."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from harness.oracles import gaussian


@pytest.mark.parametrize(("tau", "percent"), [(0.05, 3.2), (0.10, 6.4), (0.15, 9.5), (0.20, 12.7), (0.5, 31.0)])
def test_zero_fractions(tau, percent):
    assert 100 * gaussian.zero_fraction(tau) == pytest.approx(percent, abs=0.05)
    assert gaussian.zero_fraction(tau) == pytest.approx(math.erf(tau / math.sqrt(math.pi)))


@pytest.mark.parametrize(("threshold", "scale"), [(0.0, 0.8), (0.4, 0.8), (0.6, 1.2), (1.5, 1.9)])
def test_relative_error_is_the_integral_of_the_squared_difference(threshold, scale):
    inside = quad(lambda w: w**2 * norm.pdf(w), 0, threshold)[0]
    outside = quad(lambda w: (w - scale) ** 2 * norm.pdf(w), threshold, 12)[0]
    assert gaussian.relative_error(threshold, scale) == pytest.approx(2 * (inside + outside))


@pytest.mark.parametrize("threshold", [0.1, 0.6, 1.2])
def test_the_least_squares_scale_is_the_mean_of_what_is_kept_and_the_best(threshold):
    best = gaussian.least_squares_scale(threshold)
    kept = quad(lambda w: w * norm.pdf(w), threshold, 12)[0] / norm.sf(threshold)
    assert best == pytest.approx(kept)
    around = [gaussian.relative_error(threshold, best + step) for step in (-0.01, 0, 0.01)]
    assert min(around) == around[1]


def test_relative_errors_of_the_rules():
    assert gaussian.rule_relative_error("threshold", "absmean", 0.1, 1.0) == pytest.approx(0.327, abs=5e-4)
    assert gaussian.rule_relative_error("absmean", "absmean", 0.0, 1.0) == pytest.approx(0.263, abs=5e-4)
    assert gaussian.rule_relative_error("absmean", "least_squares", 0.0, 1.0) == pytest.approx(0.213, abs=5e-4)
    assert gaussian.rule_relative_error("optimal", "least_squares", 0.05, 1.0) == pytest.approx(0.190, abs=5e-4)


def test_a_band_that_excludes_the_best_threshold_costs():
    free, bound = gaussian.best_relative_error(1.0), gaussian.best_relative_error(0.3)
    at_the_border = norm.ppf(0.65)  # 30 % of the weights are smaller than this
    assert bound > free
    assert bound == pytest.approx(
        gaussian.relative_error(at_the_border, gaussian.least_squares_scale(at_the_border)), abs=1e-4
    )


def test_mean_absolute_of_a_large_sample():
    sample = np.abs(np.random.default_rng(0).standard_normal(10**6)).mean()
    assert abs(sample - gaussian.MEAN_ABSOLUTE) < 0.003
