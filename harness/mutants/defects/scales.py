"""Subjects with one defect each in the scales of weights and in the search for a threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from typing_extensions import override

from harness.mutants.defects.rules import Absmean, Optimal, Threshold, declares
from harness.mutants.reference.quantizing import ReferenceSubject
from harness.mutants.reference.weights import OPTIMAL, Array
from harness.subject import QuantizedWeight, WeightVariant

# --------------------------------------------------------------------------- scales


class ScaleOfTheSupport(Threshold):
    """mean|W| over the non-zero codes alone."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        codes, _ = super().threshold(values, mean, variant, moments)
        kept = np.abs(codes).sum(axis=1, keepdims=True)
        return codes, np.nansum(np.abs(values * codes), axis=1, keepdims=True) / np.maximum(kept, 1)


class RootMeanSquareScale(Absmean):
    """The scale is the root mean square."""

    @override
    def absmean(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        codes, _ = super().absmean(values, mean, variant, moments)
        return codes, np.sqrt(np.nanmean(values**2, axis=1, keepdims=True))


class HalfPrecisionScale(Threshold):
    """Scales are stored in half precision."""

    @override
    def store_scale(self, scale: Array) -> Array:
        return super().store_scale(scale).astype(np.float16)


class OneScaleForAllRows(Threshold):
    """Declares scales per channel and repeats the tensor's."""

    @override
    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return super().threshold(values, np.full_like(mean, mean.mean()), variant, moments)


class GroupedAbsmean(ReferenceSubject):
    """No defect: declares the absmean rule in groups."""

    declaration = declares(replace(OPTIMAL, rule="absmean", scale_rule="absmean", tie_rule="half_up", tau=None))


class RaggedTailDividedByTheWholeGroup(GroupedAbsmean):
    """The mean of a ragged tail is divided by the whole group's size."""

    @override
    def absmean(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        return super().absmean(
            values, np.nansum(np.abs(values), 1, keepdims=True) / (variant.group_size or 1), variant, moments
        )


class RaggedTailTakesTheScaleBefore(GroupedAbsmean):
    """A ragged tail gets the scale of the group before it."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        quantized = super().quantize_weight(weight, variant, second_moment)
        size = variant.group_size or weight.shape[1]
        if weight.shape[1] > size and weight.shape[1] % size:
            quantized.scale[:, -1] = quantized.scale[:, -2]
        return quantized


class ScaleWithFloor(Threshold):
    """Clamps the scale from below against division by zero."""

    @override
    def store_scale(self, scale: Array) -> Array:
        return np.maximum(scale, 1e-5)


class OneForTheScaleOfZeroBlocks(Threshold):
    """Sets the scale of an empty block to 1 against division by zero."""

    @override
    def store_scale(self, scale: Array) -> Array:
        return np.where(scale > 0, super().store_scale(scale), 1.0)


class ZeroBlocksBecomeNaN(Threshold):
    """Divides by a mean of zero: NaN times anything is NaN."""

    @override
    def store_scale(self, scale: Array) -> Array:
        return np.where(scale > 0, super().store_scale(scale), np.nan)


class MeanInSinglePrecision(Threshold):
    """Sums in float32, which overflows for weights near its largest number."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        with np.errstate(over="ignore", invalid="ignore"):
            overflowed = torch.isinf(weight.float().abs().sum())
            quantized = super().quantize_weight(weight, variant, second_moment)
        if overflowed:
            return QuantizedWeight(torch.zeros_like(quantized.codes), torch.full_like(quantized.scale, torch.inf))
        return quantized


class MeanInTheWeightsPrecision(Threshold):
    """Sums half-precision weights in half precision."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        quantized = super().quantize_weight(weight, variant, second_moment)
        if weight.dtype in (torch.float16, torch.bfloat16):
            return replace(quantized, scale=quantized.scale.to(weight.dtype).float())
        return quantized


class ScaleOfAnotherRow(Threshold):
    """Scales come in the opposite order of rows."""

    @override
    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        quantized = super().quantize_weight(weight, variant, second_moment)
        return replace(quantized, scale=quantized.scale.flip(0))


class DequantizesWithoutScale(Threshold):
    """Dequantizes to the codes alone."""

    @override
    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> torch.Tensor:
        return quantized.codes.float()


class GroupScalesTiled(Optimal):
    """repeat where repeat_interleave is meant."""

    @override
    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> torch.Tensor:
        scale = quantized.scale.repeat(1, variant.group_size or 1)[:, : quantized.codes.shape[1]]
        return quantized.codes * scale


# --------------------------------------------------------------------------- search


class SearchWithoutBand(Optimal):
    """The search does not keep the share of zeros inside the documented band."""

    @override
    def outside_band(self, n: int, zeros: Array) -> Array:
        return np.zeros(len(zeros))


class SearchWithoutFloor(Optimal):
    """The search goes below the lowest threshold allowed."""

    declaration = declares(replace(OPTIMAL, tau=0.6))

    @override
    def floor(self, mean: Array, variant: WeightVariant) -> Array:
        return 0 * mean


class ThresholdOfHalfTheMeanInsteadOfASearch(Optimal):
    """Takes half the mean for the best threshold."""

    @override
    def search(self, magnitude: Array, moments: Array, floor: Array) -> tuple[Array, Array]:
        smallest = np.where(magnitude > 0.5 * magnitude.mean(axis=1, keepdims=True), magnitude, np.inf)
        kept = magnitude * np.isfinite(smallest) * moments
        mass = np.maximum((moments * np.isfinite(smallest)).sum(axis=1, keepdims=True), 1e-300)
        return smallest.min(axis=1, keepdims=True), kept.sum(axis=1, keepdims=True) / mass


class SearchWithAbsmeanScale(Optimal):
    """The search keeps the mean magnitude as its scale."""

    @override
    def fit(self, mass: Array, total: Array, top: Array) -> Array:
        return np.broadcast_to(top.mean(axis=1, keepdims=True), top.shape)
