"""Subjects with one defect each in their activation quantizer, most of them from real implementations."""

from __future__ import annotations

import torch
from typing_extensions import override

from harness.mutants.reference.quantizing import ReferenceSubject


def absmax(values: torch.Tensor) -> torch.Tensor:
    """The largest magnitude of each token, [..., 1]."""
    return values.abs().amax(dim=-1, keepdim=True)


def divide(values: torch.Tensor, peak: torch.Tensor, limit: float = 127) -> torch.Tensor:
    """Tokens in units of which the peak has `limit`, in float64."""
    return values * limit / torch.where(peak > 0, peak, 1)


class OneScaleForTheBatch(ReferenceSubject):
    """absmax of the whole batch instead of each token's."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        super().quantize_activation(x)
        peak = x.double().abs().max().expand(*x.shape[:-1], 1)
        return divide(x.double(), peak).round().to(torch.int8), (peak / 127).float()


class OneScaleForEachSequence(ReferenceSubject):
    """absmax over tokens as well, where there is a batch of sequences."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.ndim < 3:
            return super().quantize_activation(x)
        peak = x.double().abs().amax(dim=(-2, -1), keepdim=True).expand(*x.shape[:-1], 1)
        return divide(x.double(), peak).round().to(torch.int8), (peak / 127).float()


class MinusOneTwentyEightReached(ReferenceSubject):
    """Scales by 128 and clamps to the whole of int8, against a declared range of -127 to 127."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        super().quantize_activation(x)
        peak = absmax(x.double())
        return divide(x.double(), peak, 128).round().clamp(-128, 127).to(torch.int8), (peak / 128).float()


class Truncated(ReferenceSubject):
    """A cast to int8 without rounding."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, scale = super().quantize_activation(x)
        return divide(x.double(), absmax(x.double())).to(torch.int8), scale


class ScaleClampedAgainstDivisionByZero(ReferenceSubject):
    """clamp(min=1e-5) on the absmax: tokens smaller than that are coarsened or lost."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        super().quantize_activation(x)
        peak = absmax(x.double()).clamp(min=1e-5)
        return divide(x.double(), peak).round().to(torch.int8), (peak / 127).float()


class ZeroTokenDividesByZero(ReferenceSubject):
    """A token of zeros divides by zero and gets the scale NaN."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes, scale = super().quantize_activation(x)
        return codes, torch.where(scale > 0, scale, torch.nan)


class MaximumForAbsmax(ReferenceSubject):
    """The largest value instead of the largest magnitude."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        super().quantize_activation(x)
        largest = x.double().amax(dim=-1, keepdim=True)
        peak = torch.where(largest > 0, largest, absmax(x.double()))
        return divide(x.double(), peak).round().clamp(-127, 127).to(torch.int8), (peak / 127).float()


class OutliersClipped(ReferenceSubject):
    """Nine tenths of the absmax, which the largest activations exceed."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        super().quantize_activation(x)
        peak = 0.9 * absmax(x.double())
        return divide(x.double(), peak).round().clamp(-127, 127).to(torch.int8), (peak / 127).float()


class SevenBits(ReferenceSubject):
    """Half of the range is used."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        super().quantize_activation(x)
        peak = absmax(x.double())
        return divide(x.double(), peak, 63).round().to(torch.int8), (peak / 63).float()


class InTheInputsPrecision(ReferenceSubject):
    """Multiplies by 127 in half precision, which overflows beyond 516 and rounds before."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes, scale = super().quantize_activation(x)
        product = (x * 127).double()
        rounded = (product / torch.where(absmax(x.double()) > 0, absmax(x.double()), 1)).round()
        return codes if x.dtype == torch.float32 else rounded.clamp(-127, 127).to(torch.int8), scale


class ReciprocalScale(ReferenceSubject):
    """Returns 127 / absmax, the factor that it multiplied by."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes, scale = super().quantize_activation(x)
        return codes, torch.where(scale > 0, 1 / scale, 0)


class CodesInFloat(ReferenceSubject):
    """Codes come as floats."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes, scale = super().quantize_activation(x)
        return codes.float(), scale


class NotFiniteReplaced(ReferenceSubject):
    """NaN becomes 0 and infinity a large number, without a word."""

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().quantize_activation(torch.nan_to_num(x))
