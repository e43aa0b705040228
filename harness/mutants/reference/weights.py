"""The weight rules by definition, in float64 numpy: a threshold, RoundClip(W / mean|W|), and the best threshold."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from harness.subject import QuantizedWeight, WeightVariant

Array: TypeAlias = "npt.NDArray[Any]"

THRESHOLD = WeightVariant("threshold", "channel", None, 0.1, "strictly_greater", "absmean", second_moment=False)
ABSMEAN = WeightVariant("absmean", "tensor", None, None, "half_up", "absmean", second_moment=False)
OPTIMAL = WeightVariant("optimal", "group", 16, 0.05, "strictly_greater", "least_squares", second_moment=True)


def grouped(weight: Array, variant: WeightVariant) -> tuple[Array, Array]:
    """The weights as one scale group a row, padded with NaN, and the row and column that each entry came from."""
    out, width = weight.shape
    places = np.arange(out * width).reshape(out, width)
    if variant.granularity == "tensor":
        places = places.reshape(1, -1)
    elif variant.granularity == "group":
        size = variant.group_size or width
        padded = np.full((out, -(-width // size) * size), -1)
        padded[:, :width] = places
        places = padded.reshape(-1, size)
    return np.where(places < 0, np.nan, weight.reshape(-1)[places]), places


class WeightRules:
    """Quantizes weights; each step is a method that a defect can replace."""

    def quantize_weight(
        self, weight: torch.Tensor, variant: WeightVariant, second_moment: torch.Tensor | None = None
    ) -> QuantizedWeight:
        """See `harness.subject.QuantizesWeights`."""
        self.check_weight(weight)
        values, places = grouped(weight.detach().double().numpy(), variant)
        moments = self.spread_moments(second_moment, weight, places)
        mean = np.nanmean(np.abs(values), axis=1, keepdims=True)
        codes, scale = getattr(self, variant.rule)(values, mean, variant, moments)
        flat = np.zeros(weight.numel(), dtype=np.int8)
        flat[places[places >= 0]] = codes[places >= 0]
        rows = 1 if variant.granularity == "tensor" else weight.shape[0]
        grid = torch.from_numpy(self.store_scale(scale).astype(np.float32).reshape(rows, -1))
        return QuantizedWeight(torch.from_numpy(flat.reshape(weight.shape)), grid)

    def check_weight(self, weight: torch.Tensor) -> None:
        """Raise for a weight that cannot be quantized."""
        if weight.ndim != 2 or weight.numel() == 0:
            raise ValueError("not a matrix")
        if not torch.isfinite(weight).all():
            raise ValueError("not finite")

    def spread_moments(self, second_moment: torch.Tensor | None, weight: torch.Tensor, places: Array) -> Array:
        """The second moment of each entry, grouped as the weights are."""
        if second_moment is None:
            return np.ones(places.shape)
        if second_moment.shape != weight.shape[1:] or not bool((second_moment >= 0).all()):
            raise ValueError("impossible second moments")
        moments = second_moment.double().numpy()[places % weight.shape[1]]
        return np.where(moments.any(axis=1, keepdims=True), moments, 1.0)

    def store_scale(self, scale: Array) -> Array:
        """Scales as float32 can hold them."""
        return np.where(scale > 0, np.maximum(scale, 2.0**-149), 0.0)

    def threshold(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        """Codes and scales by a threshold of tau times the mean."""
        return np.sign(values) * (np.abs(values) > variant.tau * mean), mean

    def absmean(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        """Codes and scales by rounding to the mean."""
        safe = np.where(mean > 0, mean, 1)
        return np.clip(np.floor(values / safe + 0.5), -1, 1), mean

    def optimal(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        """Codes and scales by the best threshold and scale."""
        codes, scale = np.zeros(values.shape), np.zeros((len(values), 1))
        lengths = (~np.isnan(values)).sum(axis=1)
        for length in set(lengths.tolist()):  # the groups of one length at a time: whole ones, ragged tails
            rows = lengths == length
            magnitude = np.abs(values[rows, :length])
            threshold, scale[rows] = self.search(magnitude, moments[rows, :length], self.floor(mean[rows], variant))
            codes[rows, :length] = np.sign(values[rows, :length]) * (magnitude >= threshold)
        return codes, scale

    def floor(self, mean: Array, variant: WeightVariant) -> Array:
        """The lowest threshold that is allowed."""
        return variant.tau * mean

    def search(self, magnitude: Array, moments: Array, floor: Array) -> tuple[Array, Array]:
        """Smallest kept magnitude (infinity: none) and scale of the best allowed threshold of each row."""
        order = np.argsort(-magnitude, axis=1)
        top, h = np.take_along_axis(magnitude, order, 1), np.take_along_axis(moments, order, 1)
        mass, total = (h * top).cumsum(axis=1), h.cumsum(axis=1)
        zeros = top.shape[1] - 1 - np.arange(top.shape[1])
        allowed = (top > floor) & np.hstack([top[:, :-1] > top[:, 1:], np.ones((len(top), 1), dtype=bool)])
        outside = np.where(allowed, self.outside_band(top.shape[1], zeros), np.inf)
        gain = np.where(allowed & (outside == outside.min(axis=1, keepdims=True)), self.gain(mass, total), -np.inf)
        best = gain.argmax(axis=1)[:, None]
        smallest, scale = np.take_along_axis(top, best, 1), np.take_along_axis(self.fit(mass, total, top), best, 1)
        found = allowed.any(axis=1, keepdims=True)
        return np.where(found, smallest, np.inf), np.where(found, scale, 0.0)

    def gain(self, mass: Array, total: Array) -> Array:
        """What a threshold saves of the weighted squared error."""
        return mass**2 / np.where(total > 0, total, 1)

    def fit(self, mass: Array, total: Array, top: Array) -> Array:
        """The weighted least-squares scale of each threshold."""
        plain = top.cumsum(axis=1) / np.arange(1, top.shape[1] + 1)
        return np.where(mass > 0, mass / np.where(total > 0, total, 1), plain)

    def outside_band(self, n: int, zeros: Array) -> Array:
        """How far a number of zeros lies outside 5 to 45 %, in twentieths."""
        outside: Array = np.maximum(np.maximum(n - 20 * zeros, 20 * zeros - 9 * n), 0)
        return outside

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> torch.Tensor:
        """See `harness.subject.QuantizesWeights`."""
        scale = quantized.scale
        if variant.granularity == "group":
            scale = scale.repeat_interleave(variant.group_size or 1, dim=1)[:, : quantized.codes.shape[1]]
        return quantized.codes * scale
