"""What ternary rules give on Gaussian weights, in closed form: zero fractions and relative squared errors.

For w ~ N(0, sigma^2): mean|w| = sigma sqrt(2 / pi), P(|w| < t sigma) = erf(t / sqrt 2) and
E[|w|; |w| > t sigma] = 2 sigma phi(t), with phi the standard normal density. A ternary code with threshold t sigma and
scale s sigma therefore has the relative error E[(w - s c)^2] / sigma^2 = 1 - 4 s phi(t) + s^2 P(|w| > t sigma).
"""

from __future__ import annotations

import math
from typing import Final

MEAN_ABSOLUTE: Final = math.sqrt(2 / math.pi)
"""mean|w| of standard normal weights, 0.798."""


def zero_fraction(tau: float) -> float:
    """P(|w| < tau mean|w|): the zeros of the threshold rule (and, at tau = 0.5, of the absmean rule)."""
    return math.erf(tau * MEAN_ABSOLUTE / math.sqrt(2))


def relative_error(threshold: float, scale: float) -> float:
    """E[(w - s c)^2] / E[w^2] for a threshold and a scale in units of sigma."""
    return 1 - 4 * scale * _density(threshold) + scale**2 * (1 - math.erf(threshold / math.sqrt(2)))


def least_squares_scale(threshold: float) -> float:
    """The scale that minimises `relative_error` at a threshold: E[|w| | |w| > t]."""
    return 2 * _density(threshold) / (1 - math.erf(threshold / math.sqrt(2)))


def best_relative_error(highest_zero_fraction: float) -> float:
    """The smallest relative error over all thresholds (a grid of 1e-4 sigma) whose zero fraction is allowed."""
    thresholds = (step * 1e-4 for step in range(1, 20_000))
    allowed = (t for t in thresholds if math.erf(t / math.sqrt(2)) <= highest_zero_fraction)
    return min(relative_error(t, least_squares_scale(t)) for t in allowed)


def rule_relative_error(rule: str, scale_rule: str, tau: float, highest_zero_fraction: float) -> float:
    """The relative error that a declared rule has on Gaussian weights with many weights to a scale."""
    if rule == "optimal":
        return best_relative_error(highest_zero_fraction)
    threshold = (0.5 if rule == "absmean" else tau) * MEAN_ABSOLUTE
    scale = MEAN_ABSOLUTE if scale_rule == "absmean" else least_squares_scale(threshold)
    return relative_error(threshold, scale)


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
