"""Subjects with one defect each in what they take tau for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from typing_extensions import override

from harness.mutants.defects.rules import Threshold
from harness.mutants.reference.weights import Array
from harness.subject import WeightVariant


class TauOfTheDeviation(Threshold):
    """tau in units of the standard deviation."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return np.sign(values) * (np.abs(values) > variant.tau * np.nanstd(values, axis=1, keepdims=True)), mean


class TauAsZeroFraction(Threshold):
    """Takes tau for the share of weights to zero."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        cut = np.nanquantile(np.abs(values), variant.tau or 0.0, axis=1, keepdims=True)
        return np.sign(values) * (np.abs(values) > cut), mean


class TauIgnored(Threshold):
    """The threshold is 0.1 whatever tau says."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return super().threshold(values, mean, replace(variant, tau=0.1), moments)


class TauInverted(Threshold):
    """A higher tau lowers the threshold."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return super().threshold(values, mean, replace(variant, tau=0.2 - (variant.tau or 0.0)), moments)
