"""Subjects with one defect each in the codes of weights and in what they accept: what real ones got wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from typing_extensions import override

from harness.mutants.defects.rules import Absmean, Threshold
from harness.mutants.reference.weights import Array
from harness.subject import QuantizedWeight, WeightVariant

# --------------------------------------------------------------------------- codes


class ScaledValuesCastToInt8(Threshold):
    """Casts scale * code instead of the code: all zeros, which are a subset of {-1, 0, 1}."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        quantized = super().quantize_weight(weight, variant, second_moment)
        return replace(quantized, codes=(self.dequantize(quantized, variant) * 0.4).to(torch.int8))


class FloatCodes(Threshold):
    """Codes come as floats."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        quantized = super().quantize_weight(weight, variant, second_moment)
        return replace(quantized, codes=quantized.codes.float())


class BinaryCodes(Threshold):
    """Codes are signs; nothing becomes 0."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return np.sign(values), mean


class NegativeCodesLost(Threshold):
    """No code is -1."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        codes, scale = super().threshold(values, mean, variant, moments)
        return np.maximum(codes, 0), scale


class AtLeastForStrictlyGreater(Threshold):
    """A weight on the threshold is kept, against the declared rule."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return np.sign(values) * (np.abs(values) >= variant.tau * mean), mean


class HalfEvenForHalfUp(Absmean):
    """Rounds a half to even, against the declared rule."""

    @override
    def absmean(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return np.clip(np.rint(values / np.where(mean > 0, mean, 1)), -1, 1), mean


class NegativeSideWithWiderThreshold(Threshold):
    """Negative weights have a threshold twice as high."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return 1.0 * (values > variant.tau * mean) - (values < -2 * (variant.tau or 0.0) * mean), mean


class ThresholdOfMaximum(Threshold):
    """tau is taken of the largest magnitude instead of the mean."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return np.sign(values) * (np.abs(values) > variant.tau * np.nanmax(np.abs(values), 1, keepdims=True)), mean


class StochasticRounding(Absmean):
    """Rounds at random."""

    @override
    def absmean(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        noise = np.random.default_rng(torch.initial_seed()).random(values.shape)
        return np.clip(np.floor(values / np.where(mean > 0, mean, 1) + noise), -1, 1), mean


# --------------------------------------------------------------------------- input


class LayoutIgnored(Threshold):
    """Reads the memory behind the weight in order, whatever its strides."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        if weight.ndim == 2 and weight.numel():
            weight = torch.as_strided(weight, weight.shape, (weight.shape[1], 1))
        return super().quantize_weight(weight, variant, second_moment)


class ChangesItsInput(Threshold):
    """Clamps the weight that it was given, in place."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        quantized = super().quantize_weight(weight, variant, second_moment)
        with torch.no_grad():
            weight.clamp_(-1.5, 1.5)
        return quantized


class NaNTakenForZero(Threshold):
    """NaN among the weights is taken for 0."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        return super().quantize_weight(torch.nan_to_num(weight, nan=0.0, posinf=torch.inf), variant, second_moment)


class OnlyNaNRejected(Threshold):
    """Infinity among the weights is taken for 0."""

    @override
    def check_weight(self, weight: torch.Tensor) -> None:
        super().check_weight(torch.where(torch.isinf(weight), 0, weight))


class VectorTakenForAMatrix(Threshold):
    """Quantizes a vector as a matrix of one row."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        return super().quantize_weight(weight[None] if weight.ndim == 1 else weight, variant, second_moment)
