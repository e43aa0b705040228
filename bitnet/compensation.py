"""Ternarization of a matrix that makes up for its own error, column by column.

GPTQ (Frantar et al. 2022) on the grid of a sum of ternary planes: columns are rounded one after another, and those
that are left take over as much of the error in the output y = W x as they can, over the tokens of the calibration.
With H = E[x x^T], damped, and U the upper Cholesky factor of its inverse, rounding column j to q costs
((w_j - q) / U_jj)^2.

The scales of a group are fitted to its weights as they are when its turn comes, weighted by these costs, and again by
least squares once its codes are known. At the end codes and scales take turns in descending the output error itself
(coordinate descent; Behdin et al. 2023, "QuantEase").
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64, Int8, Int64
from torch import Tensor

from bitnet.config import ScaleDtype
from bitnet.errors import BitnetError
from bitnet.grid import fit_scales, grid, least_squares
from bitnet.scales import row_step, share_exponent, to_multiples

#: Columns that are rounded before the others take over their error, which is then one product of matrices.
_BLOCK = 64
#: Each group is rounded so often, its scales fitted anew in between.
_PASSES = 2

Rounding = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Statistics:
    """Second moments of a layer's input, with the columns in the order in which they are rounded.

    `order` lists the columns, `moments` is the damped H and `upper` U, both in that order; `groups` holds the number of
    each scale group and its place in the order; `damping` is what has been added to the diagonal of H.
    """

    order: Int64[Tensor, "in"]
    moments: Float32[Tensor, "in in"]
    upper: Float32[Tensor, "in in"]
    groups: tuple[tuple[int, slice], ...]
    damping: float

    @classmethod
    def of(
        cls, moments: Float32[Tensor, "in in"], group_size: int | None, damping: float, reorder: bool = True
    ) -> "Statistics":
        """Prepare H = E[x x^T].

        Args:
            moments: H, not damped.
            group_size: columns that share a scale; None: all.
            damping: what is added to the diagonal, in units of its mean.
            reorder: take groups, and columns within a group, by descending second moment.

        Raises:
            BitnetError: H is not finite.
        """
        if not bool(torch.isfinite(moments).all()):
            raise BitnetError("the second moments are NaN or infinite: check the model's weights.")
        width = len(moments)
        diagonal = moments.diagonal().double()
        parts = list(torch.split(torch.arange(width), group_size or width))
        numbers = list(range(len(parts)))
        if reorder:
            numbers.sort(key=lambda g: -float(diagonal[parts[g]].mean()))
            parts = [part[diagonal[part].argsort(descending=True, stable=True)] for part in parts]
        order = torch.cat([parts[g] for g in numbers])
        ends = torch.tensor([len(parts[g]) for g in numbers]).cumsum(0).tolist()
        groups = tuple((g, slice(end - len(parts[g]), end)) for g, end in zip(numbers, ends, strict=True))
        damped = moments.double()[order][:, order]
        # A feature that calibration never saw has no second moment: the damping stands in for it.
        added = damping * float(diagonal.mean()) + 1e-12
        damped.diagonal().add_(added)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        return cls(order, damped.float(), torch.linalg.cholesky(inverse, upper=True).float(), groups, added)


@dataclass(frozen=True)
class Compensated:
    """Codes and scales of a matrix; E[((W - Q) x)^2] of each output, and its sum relative to that of E[(W x)^2]."""

    codes: Int8[Tensor, "planes out in"]
    scale: Float32[Tensor, "planes out groups"]
    output_error: Float32[Tensor, "out"]
    relative_error: float


@torch.no_grad()
def compensate(
    weight: Float32[Tensor, "out in"],
    statistics: Statistics,
    planes: int,
    scale_dtype: ScaleDtype = "float16",
    sweeps: int = 2,
) -> Compensated:
    """Ternary planes of `weight` for inputs with these statistics.

    Args:
        planes: 1 to 3.
        scale_dtype: how scales are stored; they are rounded as they are fitted.
        sweeps: turns of coordinate descent over all columns.
    """
    original = weight.float()[:, statistics.order]
    matrix = _Matrix(original.clone(), planes, len(statistics.groups), _rounding(original, scale_dtype))
    for number, part in statistics.groups:
        matrix.round_group(number, part, statistics.upper)
    descent = _Descent(matrix, original, statistics)
    for _ in range(sweeps):
        descent.sweep()
    lost, whole = (_energy(x, statistics) for x in (original - matrix.rounded, original))
    codes, scale = matrix.canonical(statistics.groups)
    unsorted = torch.empty_like(codes)
    unsorted[:, :, statistics.order] = codes
    total = float(whole.sum())
    seen = total > 1e-6 * statistics.damping * float(original.square().sum())  # else rounding is all that is left
    return Compensated(unsorted, scale, lost.float(), float(lost.sum()) / total if seen else 0.0)


def _rounding(weight: Float32[Tensor, "out in"], scale_dtype: ScaleDtype) -> Rounding:
    """How scales [planes, out] of the rows of `weight` are rounded; none exceeds the largest weight of its row."""
    if scale_dtype == "uint8":
        step = row_step(weight.abs().amax(dim=1))
        return lambda scales: to_multiples(scales, step)
    return share_exponent if scale_dtype == "float16" else lambda scales: scales


def _energy(weight: Float32[Tensor, "out in"], statistics: Statistics) -> Float64[Tensor, "out"]:
    """E[(w x)^2] of each row, by the moments without damping."""
    damped = (weight @ statistics.moments * weight).sum(dim=1).double()
    return (damped - statistics.damping * weight.double().square().sum(dim=1)).clamp_min(0.0)


class _Matrix:
    """A matrix on its way: weights that are still to be rounded, and what the others have become."""

    def __init__(self, weight: Float32[Tensor, "out in"], planes: int, groups: int, rounding: Rounding) -> None:
        self.weight, self.planes, self.rounding = weight, planes, rounding
        self.rounded = torch.zeros_like(weight)
        self.codes = torch.zeros(planes, *weight.shape, dtype=torch.int8)
        self.scale = torch.zeros(planes, len(weight), groups)

    def round_group(self, number: int, part: slice, upper: Float32[Tensor, "in in"]) -> None:
        """Fit, round and fit again the columns `part`, and let those after them take over the error."""
        weight, corner = self.weight[:, part], upper[part, part]
        scales = self.rounding(fit_scales(weight, corner.diagonal().square().reciprocal().unsqueeze(0), self.planes))
        inverse = torch.linalg.solve_triangular(corner, torch.eye(len(corner)), upper=True)
        metric = inverse @ inverse.T
        for _ in range(_PASSES):
            codes = self._round(weight, scales, corner)
            floats = codes.float()
            scales = self.rounding(least_squares(floats, weight @ metric, floats @ metric, scales))
        self.codes[:, :, part], self.scale[:, :, number] = codes, scales
        self.rounded[:, part] = combine(codes, scales)
        errors = (weight - self.rounded[:, part]) @ inverse
        self.weight[:, part.stop :] -= errors @ upper[part, part.stop :]

    def _round(
        self, weight: Float32[Tensor, "out n"], scales: Float32[Tensor, "planes out"], upper: Float32[Tensor, "n n"]
    ) -> Int8[Tensor, "planes out n"]:
        """Codes of columns that share their scales, each taking over the errors of those before it."""
        left, found = weight.clone(), grid(scales)
        index = torch.empty(weight.shape, dtype=torch.int64)
        for start in range(0, weight.shape[1], _BLOCK):
            block = slice(start, min(start + _BLOCK, weight.shape[1]))
            part, corner = left[:, block], upper[block, block]
            errors = torch.empty_like(part)
            for j in range(part.shape[1]):
                column = part[:, j : j + 1].contiguous()
                chosen = found.nearest(column)
                index[:, start + j : start + j + 1] = chosen
                errors[:, j : j + 1] = (column - found.values.gather(1, chosen)) / corner[j, j]
                part[:, j + 1 :].addr_(errors[:, j], corner[j, j + 1 :], alpha=-1.0)
            left[:, block.stop :] -= errors @ upper[block, block.stop :]
        return found.codes(index, self.planes)

    def canonical(
        self, groups: tuple[tuple[int, slice], ...]
    ) -> tuple[Int8[Tensor, "planes out in"], Float32[Tensor, "planes out groups"]]:
        """The same values with scales that are not negative; the codes of a scale 0 are 0."""
        codes = self.codes.clone()
        for number, part in groups:
            codes[:, :, part] *= self.scale[:, :, number, None].sign().to(torch.int8)
        return codes, self.scale.abs()


class _Descent:
    """Coordinate descent of the output error: one column, or the scales of one group, at a time."""

    def __init__(self, matrix: _Matrix, original: Float32[Tensor, "out in"], statistics: Statistics) -> None:
        self.matrix, self.original, self.statistics = matrix, original, statistics

    def sweep(self) -> None:
        """Every group once: its columns one by one, then its scales. The error never rises but by rounding."""
        moments, matrix = self.statistics.moments, self.matrix
        slope = (self.original - matrix.rounded) @ moments  # half the negative gradient by the rounded weights
        for number, part in self.statistics.groups:
            codes = self._columns(part, matrix.scale[:, :, number], slope)
            corner, floats = moments[part, part], codes.float()
            target = slope[:, part] + matrix.rounded[:, part] @ corner
            scales = matrix.rounding(least_squares(floats, target, floats @ corner, matrix.scale[:, :, number]))
            after = combine(codes, scales)
            slope -= (after - matrix.rounded[:, part]) @ moments[part]
            matrix.codes[:, :, part], matrix.scale[:, :, number] = codes, scales
            matrix.rounded[:, part] = after

    def _columns(
        self, part: slice, scales: Float32[Tensor, "planes out"], slope: Float32[Tensor, "out in"]
    ) -> Int8[Tensor, "planes out n"]:
        """Move each column of a group to the grid value that is best as the others stand; `slope` follows."""
        moments, rounded, found = self.statistics.moments, self.matrix.rounded, grid(scales)
        index = torch.empty(len(rounded), part.stop - part.start, dtype=torch.int64)
        for start in range(part.start, part.stop, _BLOCK):
            block = slice(start, min(start + _BLOCK, part.stop))
            local, corner = slope[:, block].clone(), moments[block, block]
            before = rounded[:, block].clone()
            for j in range(local.shape[1]):
                column = before[:, j : j + 1]
                chosen = found.nearest(column + local[:, j : j + 1] / corner[j, j])
                value = found.values.gather(1, chosen)
                index[:, start - part.start + j : start - part.start + j + 1] = chosen
                local.addr_((value - column).squeeze(1), corner[j], alpha=-1.0)
                rounded[:, start + j : start + j + 1] = value
            slope -= (rounded[:, block] - before) @ moments[block]
        return found.codes(index, self.matrix.planes)


def combine(codes: Int8[Tensor, "planes out n"], scales: Float32[Tensor, "planes out"]) -> Float32[Tensor, "out n"]:
    """sum_i a_i t_i of columns that share their scales."""
    return (codes.float() * scales.unsqueeze(2)).sum(dim=0)
