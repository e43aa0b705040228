"""Subjects with one defect each in what they do with second moments."""

from __future__ import annotations

import numpy as np
import torch
from typing_extensions import override

from harness.mutants.defects.rules import Optimal
from harness.mutants.reference.weights import Array
from harness.subject import QuantizedWeight, WeightVariant


class CalibrationIgnored(Optimal):
    """Checks the second moments and does nothing with them."""

    @override
    def spread_moments(self, second_moment: torch.Tensor | None, weight: torch.Tensor, places: Array) -> Array:
        super().spread_moments(second_moment, weight, places)
        return np.ones(places.shape)


class CalibratedByTheRoot(Optimal):
    """Weighs errors by the root of the second moments."""

    @override
    def spread_moments(self, second_moment: torch.Tensor | None, weight: torch.Tensor, places: Array) -> Array:
        return np.sqrt(super().spread_moments(second_moment, weight, places))


class CalibrationInTheScaleAlone(Optimal):
    """The second moments decide the scale, not the threshold."""

    @override
    def gain(self, mass: Array, total: Array) -> Array:
        n = np.arange(1, mass.shape[1] + 1)
        return self.plain**2 / n

    @override
    def search(self, magnitude: Array, moments: Array, floor: Array) -> tuple[Array, Array]:
        self.plain = -np.sort(-magnitude, axis=1)
        self.plain = self.plain.cumsum(axis=1)
        return super().search(magnitude, moments, floor)


class CalibrationInTheThresholdAlone(Optimal):
    """The second moments decide the threshold, not the scale."""

    @override
    def fit(self, mass: Array, total: Array, top: Array) -> Array:
        return top.cumsum(axis=1) / np.arange(1, top.shape[1] + 1)


class DeadFeaturesDivideByZero(Optimal):
    """Divides by the second moments of features that are never active."""

    @override
    def spread_moments(self, second_moment: torch.Tensor | None, weight: torch.Tensor, places: Array) -> Array:
        super().spread_moments(second_moment, weight, places)
        moments = torch.ones(weight.shape[1]) if second_moment is None else second_moment
        spread: Array = moments.double().numpy()[places % weight.shape[1]]
        return spread

    @override
    def fit(self, mass: Array, total: Array, top: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return mass / total

    @override
    def store_scale(self, scale: Array) -> Array:
        return np.where(np.isnan(scale), scale, super().store_scale(scale))


class SmoothingNotUndone(Optimal):
    """Scales the columns by the inputs' root mean square before quantizing, and never scales them back."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        super().quantize_weight(weight, variant, second_moment)
        smoothed = weight if second_moment is None else weight * second_moment.sqrt()
        return super().quantize_weight(smoothed, variant)


class ImpossibleMomentsAccepted(Optimal):
    """Negative second moments, and NaN, are taken for 0."""

    @override
    def spread_moments(self, second_moment: torch.Tensor | None, weight: torch.Tensor, places: Array) -> Array:
        if second_moment is not None and second_moment.shape == weight.shape[1:]:
            second_moment = torch.nan_to_num(second_moment, 0.0).clamp(min=0)
        return super().spread_moments(second_moment, weight, places)
