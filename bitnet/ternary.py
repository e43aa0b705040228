"""Ternary matrices as values: codes in {-1, 0, +1} with their scales, and sums of several."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

from bitnet.config import ScaleDtype
from bitnet.scales import round_scales


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
        return TernarySum(self.codes, round_scales(self.scale, dtype), self.group_size)


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
