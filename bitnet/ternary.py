"""Ternary matrices as values: codes in {-1, 0, +1} with their scales, and sums of several."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

from bitnet.config import ScaleDtype
from bitnet.errors import BitnetError

#: Largest and smallest positive float16.
_HALF_MAX, _HALF_MIN = 65504.0, 2.0**-24


@dataclass(frozen=True)
class TernaryWeight:
    """A ternary weight matrix, W ~ scale * codes.

    `scale` is (1, 1) for one scale per tensor, (out, 1) per output channel, and
    (out, ceil(in / group_size)) per group; `group_size` is None except for groups.
    """

    codes: Int8[Tensor, "out in"]
    scale: Float32[Tensor, "rows groups"]
    group_size: int | None = None

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """scale * codes, exact in float32 and then rounded once to `dtype`."""
        return torch.mul(self.codes, per_weight(self.scale, self.group_size, self.codes.shape[1])).to(dtype)

    @property
    def zero_fraction(self) -> float:
        """Share of codes that are zero, in [0, 1]."""
        return 1.0 - int(torch.count_nonzero(self.codes)) / self.codes.numel()

    def to(self, device: torch.device | str) -> "TernaryWeight":
        """The same weight on another device."""
        return TernaryWeight(self.codes.to(device), self.scale.to(device), self.group_size)


@dataclass(frozen=True)
class TernarySum:
    """A weight matrix of one or several ternary planes, W ~ sum_p scale_p * codes_p.

    The scales of every plane have a shape as in `TernaryWeight`, the same for all.
    """

    codes: Int8[Tensor, "planes out in"]
    scale: Float32[Tensor, "planes rows groups"]
    group_size: int | None = None

    @classmethod
    def of(cls, *planes: TernaryWeight) -> "TernarySum":
        """The sum of at least one plane, all of one shape."""
        codes, scale = (torch.stack(parts) for parts in zip(*((p.codes, p.scale) for p in planes), strict=True))
        return cls(codes, scale, planes[0].group_size)

    @property
    def planes(self) -> tuple[TernaryWeight, ...]:
        """The terms of the sum."""
        return tuple(TernaryWeight(c, s, self.group_size) for c, s in zip(self.codes, self.scale, strict=True))

    @property
    def zero_fraction(self) -> float:
        """Share of codes that are zero over all planes, in [0, 1]."""
        return 1.0 - int(torch.count_nonzero(self.codes)) / self.codes.numel()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The sum, added up in float32 in the order of the planes and then rounded once to `dtype`."""
        return sum_planes(self.codes, per_weight(self.scale, self.group_size, self.codes.shape[2])).to(dtype)

    def rounded(self, dtype: ScaleDtype) -> "TernarySum":
        """The same codes with scales as they are stored in `dtype`.

        Raises:
            BitnetError: the sum of a group's scales is beyond float16.
        """
        return self if dtype == "float32" else TernarySum(self.codes, share_exponent(self.scale), self.group_size)


def per_weight(scale: Float[Tensor, "... groups"], group_size: int | None, width: int) -> Float[Tensor, "... #in"]:
    """Each input feature's scale; without groups the one scale of the row, to be broadcast."""
    return scale if group_size is None else scale.repeat_interleave(group_size, dim=-1)[..., :width]


def sum_planes(
    codes: Int8[Tensor, "planes out in"], scale: Float32[Tensor, "planes #out #in"]
) -> Float32[Tensor, "out in"]:
    """sum_p scale_p * codes_p, added up in the order of the planes."""
    total = torch.mul(codes[0], scale[0])
    for plane, factor in zip(codes[1:], scale[1:], strict=True):
        total = total + torch.mul(plane, factor)
    return total


def equal_groups(width: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Column ranges that divide into groups of one size, each with the range of its groups: whole ones, the tail."""
    whole = width // columns
    yield slice(0, whole * columns), slice(0, whole)
    if width % columns:
        yield slice(whole * columns, width), slice(whole, whole + 1)


def share_exponent(scales: Float32[Tensor, "planes ..."]) -> Float32[Tensor, "planes ..."]:
    """Scales rounded to float16 so that their sums, with any signs, are float16 numbers as well.

    The planes' scales become multiples of one step, 2^-10 of the power of two below their sum, so a float16 model holds
    the sum of the planes exactly; one plane's scale becomes the nearest float16. Where a scale is not zero it stays
    at least one step.

    Raises:
        BitnetError: a sum is beyond float16.
    """
    total = scales.double().abs().sum(dim=0)
    if bool((total > _HALF_MAX).any()):
        raise BitnetError(
            f"a scale reaches {float(total.max()):.4g}, beyond float16's 65504: store scales with scale_dtype=float32."
        )
    # Rounding can lift the sum of several scales over a power of two: then the step is the next one's.
    slack = 1.0 + (len(scales) - 1) * 2.0**-11
    step = torch.exp2(torch.floor(torch.log2((total * slack).clamp_min(_HALF_MIN))) - 10).clamp_min(_HALF_MIN)
    steps = (scales.double() / step).round()
    steps = torch.where((scales != 0) & (steps == 0), scales.double().sign(), steps)
    return (steps * step).to(torch.float32)
