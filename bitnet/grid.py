"""The grid of a sum of ternary planes: 3^p values a row, the nearest of them, and scales fitted to weights.

With scales a_1..a_p a weight becomes sum_i a_i t_i, t_i in {-1, 0, +1}. Rows have grids of their own; everything here
runs over all rows at once.
"""

import functools
import itertools
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int8, Int64, UInt8
from torch import Tensor

from bitnet.ternary import TernarySum, equal_groups, sum_planes

MAX_PLANES = 3
_REFITS = 3
#: Starts: the largest grid value, in units of the largest weight (it need not be reached), by the number of planes.
_REACHES = {1: (0.5,), 2: (0.7, 0.9), 3: (0.85, 1.0)}
#: A plane's scale over the next one's. An even grid has 3; less crowds values in the middle, where most weights are.
_RATIO = 1.75
#: Columns below which a search for the nearest value is faster than counting.
_FEW = 16


class Grid(NamedTuple):
    """The values of each row in ascending order, the bounds half-way between them, and the codes behind them."""

    values: Float32[Tensor, "rows values"]
    bounds: Float32[Tensor, "rows bounds"]
    order: Int64[Tensor, "rows values"]

    def nearest(self, weight: Float32[Tensor, "rows n"]) -> Int64[Tensor, "rows n"]:
        """Index of the value nearest to each weight; of two equally near the smaller one."""
        return self.position(weight).long()

    def position(self, weight: Float32[Tensor, "rows n"]) -> UInt8[Tensor, "rows n"]:
        """`nearest` in an eighth of the memory."""
        if weight.shape[1] < _FEW:
            return torch.searchsorted(self.bounds, weight.contiguous()).to(torch.uint8)
        # The same by counting the bounds that lie below, which vectors of the processor do several times as fast.
        below = torch.zeros(weight.shape, dtype=torch.uint8, device=weight.device)
        for bound in self.bounds.unbind(1):
            below += weight > bound.unsqueeze(1)
        return below

    def choices(self, planes: int) -> Int8[Tensor, "planes rows values"]:
        """The codes behind every value."""
        return combinations(planes)[self.order].movedim(-1, 0)

    def codes(self, index: Int64[Tensor, "rows n"], planes: int) -> Int8[Tensor, "planes rows n"]:
        """The codes of the values of that index."""
        return self.choices(planes).gather(2, index.expand(planes, -1, -1))


@functools.cache
def combinations(planes: int) -> Int8[Tensor, "values planes"]:
    """Every choice of codes: [3^planes, planes]."""
    return torch.tensor(list(itertools.product((-1, 0, 1), repeat=planes)), dtype=torch.int8)


def grid(scales: Float32[Tensor, "planes rows"]) -> Grid:
    """The grid of each row."""
    values, order = (scales.T @ combinations(len(scales)).T.to(scales.dtype)).sort(dim=1, stable=True)
    return Grid(values, (values[:, 1:] + values[:, :-1]) / 2, order)


def fit_scales(
    weight: Float32[Tensor, "rows n"], importance: Float32[Tensor, "#rows n"], planes: int
) -> Float32[Tensor, "planes rows"]:
    """Scales whose grid is near the weights: sum_j importance_j (w_j - q_j)^2 is low, planes fitted jointly.

    From several starts, codes and least-squares scales take turns; each row keeps its best.
    """
    peak = weight.abs().amax(dim=1)
    best, lowest = torch.zeros(planes, len(weight)), torch.full((len(weight),), torch.inf)
    steps = torch.tensor([_RATIO**-i for i in range(planes)])
    for reach in _REACHES[planes]:
        scales = (reach / steps.sum() * steps).unsqueeze(1) * peak
        for _ in range(_REFITS):
            found = grid(scales)
            codes = found.codes(found.nearest(weight), planes).to(weight.dtype)
            scales = least_squares(codes, weight * importance, codes * importance, scales)
        found = grid(scales)
        error = ((weight - found.values.gather(1, found.nearest(weight))).square() * importance).sum(dim=1)
        better = error < lowest
        lowest, best = torch.where(better, error, lowest), torch.where(better, scales, best)
    return best


def least_squares(
    codes: Float32[Tensor, "planes rows n"],
    target: Float32[Tensor, "rows n"],
    weighted: Float32[Tensor, "planes rows n"],
    before: Float32[Tensor, "planes rows"],
) -> Float32[Tensor, "planes rows"]:
    """Scales that minimise (w - sum a t) M (w - sum a t)^T of each row.

    Args:
        codes: t.
        target: w M.
        weighted: t M.
        before: the scales so far, which a tiny ridge pulls to, so that a plane without codes keeps its scale.
    """
    gram = torch.einsum("prn,qrn->rpq", codes, weighted)
    right = torch.einsum("prn,rn->rp", codes, target)
    ridge = 1e-6 * gram.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-30
    gram = gram + torch.diag_embed(ridge.unsqueeze(1).expand(-1, len(codes)))
    solved = torch.linalg.solve(gram.double(), (right + ridge.unsqueeze(1) * before.T).double().unsqueeze(2))
    scales: Tensor = solved.squeeze(2).T.to(codes.dtype)
    return scales


class NearestValues(NamedTuple):
    """The values of a sum of planes that are nearest to a weight.

    `position` is the number of each value among the values of its group, and `choices` has the codes behind those, for
    the groups of each part of `bitnet.ternary.equal_groups`.
    """

    values: Float32[Tensor, "out in"]
    position: UInt8[Tensor, "out in"]
    choices: tuple[Int8[Tensor, "planes groups values"], ...]


def nearest_values(
    weight: Float[Tensor, "out in"], scale: Float32[Tensor, "planes rows groups"], group_size: int | None
) -> NearestValues:
    """The values of `TernarySum(nearest_codes(...), ...)` to the last bit, without the codes of every weight.

    Args:
        weight: finite values.
        scale: as for `nearest_codes`.
        group_size: as for `nearest_codes`.
    """
    rows, width = weight.shape
    values = torch.empty(rows, width, device=weight.device)
    position = torch.empty(rows, width, dtype=torch.uint8, device=weight.device)
    choices = []
    for part, groups in equal_groups(width, group_size or width):
        scales = scale[:, :, groups].expand(-1, rows, -1).reshape(len(scale), -1)
        found = grid(scales)
        below = found.position(weight[:, part].float().reshape(scales.shape[1], -1))
        chosen = found.choices(len(scale)) * (scales != 0).unsqueeze(2)
        values[:, part] = sum_planes(chosen, scales.unsqueeze(2)).gather(1, below.long()).view(rows, -1)
        position[:, part] = below.view(rows, -1)
        choices.append(chosen)
    return NearestValues(values, position, tuple(choices))


def nearest_codes(
    weight: Float[Tensor, "out in"], scale: Float32[Tensor, "planes rows groups"], group_size: int | None
) -> Int8[Tensor, "planes out in"]:
    """Codes of the grid value nearest to each weight; where a scale is 0 so is the code.

    Args:
        scale: one row of scales for the matrix, or one for each row of it.
        group_size: input features that share a scale; None for one scale a row.
    """
    rows, width = weight.shape
    planes = len(scale)
    scale = scale.expand(planes, rows, -1)
    codes = torch.empty(planes, rows, width, dtype=torch.int8, device=weight.device)
    for part, groups in equal_groups(width, group_size or width):
        scales = scale[:, :, groups].reshape(planes, -1)
        if scales.numel() == 0:
            continue
        found = grid(scales)
        block = weight[:, part].float().reshape(scales.shape[1], -1)
        chosen = found.codes(found.nearest(block), planes) * (scales != 0).unsqueeze(2)
        codes[:, :, part] = chosen.reshape(planes, rows, -1)
    return codes


def within_cells(weight: Float[Tensor, "out in"], ternary: TernarySum, margin: float) -> Float32[Tensor, "out in"]:
    """The values nearest to `weight` that `nearest_codes` takes to the values of `ternary`.

    Args:
        weight: what the values are to be near.
        ternary: the planes.
        margin: how far values stay from the bounds of their cells, in units of the way from there to the grid value.
    """
    _, rows, width = ternary.codes.shape
    target, scale = ternary.dequantize(), ternary.scale.expand(-1, rows, -1)
    moved = torch.empty(rows, width)
    for part, groups in equal_groups(width, ternary.group_size or width):
        scales = scale[:, :, groups].reshape(len(scale), -1)
        if scales.numel() == 0:
            continue
        found = grid(scales)
        value = target[:, part].reshape(scales.shape[1], -1)
        bounds = torch.nn.functional.pad(found.bounds, (1, 1), value=torch.inf)
        bounds[:, 0] = -torch.inf
        index = found.nearest(value)
        low, high = (value + (1 - margin) * (bounds.gather(1, index + side) - value) for side in (0, 1))
        moved[:, part] = weight[:, part].float().reshape(value.shape).clamp(low, high).reshape(rows, -1)
    return moved
