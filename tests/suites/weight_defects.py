"""Subjects with one defect each in their weight rules: what real ones got wrong, and what would be easy to."""

from dataclasses import replace

import numpy as np
import torch

from harness.subject import QuantizedWeight
from tests.suites.reference_subject import ABSMEAN, OPTIMAL, THRESHOLD, ReferenceSubject


def declares(*variants):
    return replace(ReferenceSubject.declaration, variants=variants)


class Threshold(ReferenceSubject):
    declaration = declares(THRESHOLD)


class Absmean(ReferenceSubject):
    declaration = declares(ABSMEAN)


class Optimal(ReferenceSubject):
    declaration = declares(OPTIMAL)


# --------------------------------------------------------------------------- codes


class ScaledValuesCastToInt8(Threshold):
    """Casts scale * code instead of the code: all zeros, which are a subset of {-1, 0, 1}."""

    def quantize_weight(self, weight, variant, second_moment=None):
        quantized = super().quantize_weight(weight, variant, second_moment)
        return replace(quantized, codes=(self.dequantize(quantized, variant) * 0.4).to(torch.int8))


class FloatCodes(Threshold):
    def quantize_weight(self, weight, variant, second_moment=None):
        quantized = super().quantize_weight(weight, variant, second_moment)
        return replace(quantized, codes=quantized.codes.float())


class BinaryCodes(Threshold):
    def threshold(self, values, mean, variant, moments):
        return np.sign(values), mean


class NegativeCodesLost(Threshold):
    def threshold(self, values, mean, variant, moments):
        codes, scale = super().threshold(values, mean, variant, moments)
        return np.maximum(codes, 0), scale


class AtLeastForStrictlyGreater(Threshold):
    def threshold(self, values, mean, variant, moments):
        return np.sign(values) * (np.abs(values) >= variant.tau * mean), mean


class HalfEvenForHalfUp(Absmean):
    def absmean(self, values, mean, variant, moments):
        return np.clip(np.rint(values / np.where(mean > 0, mean, 1)), -1, 1), mean


class NegativeSideWithWiderThreshold(Threshold):
    def threshold(self, values, mean, variant, moments):
        return 1.0 * (values > variant.tau * mean) - (values < -2 * variant.tau * mean), mean


class ThresholdOfMaximum(Threshold):
    def threshold(self, values, mean, variant, moments):
        return np.sign(values) * (np.abs(values) > variant.tau * np.nanmax(np.abs(values), 1, keepdims=True)), mean


class StochasticRounding(Absmean):
    def absmean(self, values, mean, variant, moments):
        noise = np.random.default_rng(torch.initial_seed()).random(values.shape)
        return np.clip(np.floor(values / np.where(mean > 0, mean, 1) + noise), -1, 1), mean


# --------------------------------------------------------------------------- scales


class ScaleOfTheSupport(Threshold):
    """mean|W| over the non-zero codes alone."""

    def threshold(self, values, mean, variant, moments):
        codes, _ = super().threshold(values, mean, variant, moments)
        kept = np.abs(codes).sum(axis=1, keepdims=True)
        return codes, np.nansum(np.abs(values * codes), axis=1, keepdims=True) / np.maximum(kept, 1)


class RootMeanSquareScale(Absmean):
    def absmean(self, values, mean, variant, moments):
        codes, _ = super().absmean(values, mean, variant, moments)
        return codes, np.sqrt(np.nanmean(values**2, axis=1, keepdims=True))


class HalfPrecisionScale(Threshold):
    def store_scale(self, scale):
        return super().store_scale(scale).astype(np.float16)


class OneScaleForAllRows(Threshold):
    """Declares scales per channel and repeats the tensor's."""

    def threshold(self, values, mean, variant, moments):
        return super().threshold(values, np.full_like(mean, mean.mean()), variant, moments)


class RaggedTailDividedByTheWholeGroup(Optimal):
    declaration = declares(replace(OPTIMAL, rule="absmean", scale_rule="absmean", tie_rule="half_up", tau=None))

    def absmean(self, values, mean, variant, moments):
        return super().absmean(
            values, np.nansum(np.abs(values), 1, keepdims=True) / variant.group_size, variant, moments
        )


class RaggedTailTakesTheScaleBefore(RaggedTailDividedByTheWholeGroup):
    def absmean(self, values, mean, variant, moments):
        return ReferenceSubject.absmean(self, values, mean, variant, moments)

    def quantize_weight(self, weight, variant, second_moment=None):
        quantized = super().quantize_weight(weight, variant, second_moment)
        if weight.shape[1] > variant.group_size and weight.shape[1] % variant.group_size:
            quantized.scale[:, -1] = quantized.scale[:, -2]
        return quantized


class ScaleWithFloor(Threshold):
    """Clamps the scale from below against division by zero."""

    def store_scale(self, scale):
        return np.maximum(scale, 1e-5)


class OneForTheScaleOfZeroBlocks(Threshold):
    """Sets the scale of an empty block to 1 against division by zero."""

    def store_scale(self, scale):
        return np.where(scale > 0, super().store_scale(scale), 1.0)


class ZeroBlocksBecomeNaN(Threshold):
    """Divides by a mean of zero: NaN times anything is NaN."""

    def store_scale(self, scale):
        return np.where(scale > 0, super().store_scale(scale), np.nan)


class MeanInSinglePrecision(Threshold):
    """Sums in float32, which overflows for weights near its largest number."""

    def quantize_weight(self, weight, variant, second_moment=None):
        with np.errstate(over="ignore", invalid="ignore"):
            overflowed = torch.isinf(weight.float().abs().sum())
            quantized = super().quantize_weight(weight, variant, second_moment)
        if overflowed:
            return QuantizedWeight(torch.zeros_like(quantized.codes), torch.full_like(quantized.scale, torch.inf))
        return quantized


class MeanInTheWeightsPrecision(Threshold):
    """Sums half-precision weights in half precision."""

    def quantize_weight(self, weight, variant, second_moment=None):
        quantized = super().quantize_weight(weight, variant, second_moment)
        if weight.dtype in (torch.float16, torch.bfloat16):
            return replace(quantized, scale=quantized.scale.to(weight.dtype).float())
        return quantized


class ScaleOfAnotherRow(Threshold):
    def quantize_weight(self, weight, variant, second_moment=None):
        quantized = super().quantize_weight(weight, variant, second_moment)
        return replace(quantized, scale=quantized.scale.flip(0))


class DequantizesWithoutScale(Threshold):
    def dequantize(self, quantized, variant):
        return quantized.codes.float()


class GroupScalesTiled(Optimal):
    """repeat where repeat_interleave is meant."""

    def dequantize(self, quantized, variant):
        scale = quantized.scale.repeat(1, variant.group_size)[:, : quantized.codes.shape[1]]
        return quantized.codes * scale


# --------------------------------------------------------------------------- search


class SearchWithoutBand(Optimal):
    def outside_band(self, n, zeros):
        return np.zeros(len(zeros))


class SearchWithoutFloor(Optimal):
    declaration = declares(replace(OPTIMAL, tau=0.6))

    def floor(self, mean, variant):
        return 0 * mean


class ThresholdOfHalfTheMeanInsteadOfASearch(Optimal):
    def search(self, magnitude, moments, floor):
        smallest = np.where(magnitude > 0.5 * magnitude.mean(axis=1, keepdims=True), magnitude, np.inf)
        kept = magnitude * np.isfinite(smallest) * moments
        mass = np.maximum((moments * np.isfinite(smallest)).sum(axis=1, keepdims=True), 1e-300)
        return smallest.min(axis=1, keepdims=True), kept.sum(axis=1, keepdims=True) / mass


class SearchWithAbsmeanScale(Optimal):
    def fit(self, mass, total, top):
        return np.broadcast_to(top.mean(axis=1, keepdims=True), top.shape)


# --------------------------------------------------------------------------- input


class LayoutIgnored(Threshold):
    """Reads the memory behind the weight in order, whatever its strides."""

    def quantize_weight(self, weight, variant, second_moment=None):
        if weight.ndim == 2 and weight.numel():
            weight = torch.as_strided(weight, weight.shape, (weight.shape[1], 1))
        return super().quantize_weight(weight, variant, second_moment)


class ChangesItsInput(Threshold):
    def quantize_weight(self, weight, variant, second_moment=None):
        quantized = super().quantize_weight(weight, variant, second_moment)
        with torch.no_grad():
            weight.clamp_(-1.5, 1.5)
        return quantized


class NaNTakenForZero(Threshold):
    def quantize_weight(self, weight, variant, second_moment=None):
        return super().quantize_weight(torch.nan_to_num(weight, nan=0.0, posinf=torch.inf), variant, second_moment)


class OnlyNaNRejected(Threshold):
    def check_weight(self, weight):
        super().check_weight(torch.where(torch.isinf(weight), 0, weight))


class VectorTakenForAMatrix(Threshold):
    def quantize_weight(self, weight, variant, second_moment=None):
        return super().quantize_weight(weight[None] if weight.ndim == 1 else weight, variant, second_moment)


# --------------------------------------------------------------------------- calibration


class CalibrationIgnored(Optimal):
    def spread_moments(self, second_moment, weight, places):
        super().spread_moments(second_moment, weight, places)
        return np.ones(places.shape)


class CalibratedByTheRoot(Optimal):
    def spread_moments(self, second_moment, weight, places):
        return np.sqrt(super().spread_moments(second_moment, weight, places))


class CalibrationInTheScaleAlone(Optimal):
    def gain(self, mass, total):
        n = np.arange(1, mass.shape[1] + 1)
        return self.plain**2 / n

    def search(self, magnitude, moments, floor):
        self.plain = -np.sort(-magnitude, axis=1)
        self.plain = self.plain.cumsum(axis=1)
        return super().search(magnitude, moments, floor)


class CalibrationInTheThresholdAlone(Optimal):
    def fit(self, mass, total, top):
        return top.cumsum(axis=1) / np.arange(1, top.shape[1] + 1)


class DeadFeaturesDivideByZero(Optimal):
    def spread_moments(self, second_moment, weight, places):
        super().spread_moments(second_moment, weight, places)
        moments = torch.ones(weight.shape[1]) if second_moment is None else second_moment
        return moments.double().numpy()[places % weight.shape[1]]

    def fit(self, mass, total, top):
        with np.errstate(invalid="ignore"):
            return mass / total

    def store_scale(self, scale):
        return np.where(np.isnan(scale), scale, super().store_scale(scale))


class SmoothingNotUndone(Optimal):
    """Scales the columns by the inputs' root mean square before quantizing, and never scales them back."""

    def quantize_weight(self, weight, variant, second_moment=None):
        super().quantize_weight(weight, variant, second_moment)
        smoothed = weight if second_moment is None else weight * second_moment.sqrt()
        return super().quantize_weight(smoothed, variant)


class ImpossibleMomentsAccepted(Optimal):
    def spread_moments(self, second_moment, weight, places):
        if second_moment is not None and second_moment.shape == weight.shape[1:]:
            second_moment = torch.nan_to_num(second_moment, 0.0).clamp(min=0)
        return super().spread_moments(second_moment, weight, places)


# --------------------------------------------------------------------------- sparsity


class TauOfTheDeviation(Threshold):
    """tau in units of the standard deviation."""

    def threshold(self, values, mean, variant, moments):
        return np.sign(values) * (np.abs(values) > variant.tau * np.nanstd(values, axis=1, keepdims=True)), mean


class TauAsZeroFraction(Threshold):
    """Takes tau for the share of weights to zero."""

    def threshold(self, values, mean, variant, moments):
        cut = np.nanquantile(np.abs(values), variant.tau, axis=1, keepdims=True)
        return np.sign(values) * (np.abs(values) > cut), mean


class TauIgnored(Threshold):
    def threshold(self, values, mean, variant, moments):
        return super().threshold(values, mean, replace(variant, tau=0.1), moments)


class TauInverted(Threshold):
    def threshold(self, values, mean, variant, moments):
        return super().threshold(values, mean, replace(variant, tau=0.2 - variant.tau), moments)
