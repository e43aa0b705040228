"""Ternary weight rules in float64 and by brute force: what a subject's codes and scales are compared with.

Rules, per scale block (the whole tensor, a row, or a group of consecutive weights of a row), with a = mean|W| of it:

- ``threshold``: code = sign(w) where |w| > tau a (or >=, as the tie rule declares), else 0;
- ``absmean`` (b1.58, arXiv:2402.17764, equations 1-3): code = RoundClip(w / a, -1, 1);
- ``absmax`` (ggml's TQ1_0 and TQ2_0): code = RoundClip(w / m, -1, 1) with m = max|W| of the block;
- ``optimal``: code = sign(w) where |w| exceeds the threshold that minimises sum_j h_j (w_j - s c_j)^2 with the
  least-squares s, among thresholds of at least tau a that keep the zero fraction inside `ZERO_FRACTION_BAND`.

A decision is *not* compared where exact arithmetic lies within floating-point rounding of the border (``decided``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int8

from harness.subject import WeightVariant

RULES: Final = ("threshold", "absmean", "absmax", "optimal")
"""What `reference_codes` and `best_threshold` know; the codes of any other rule are held to no reference."""
ZERO_FRACTION_BAND: Final = (Fraction(5, 100), Fraction(45, 100))
"""The documented sparsity range, 5-45 %, as exact fractions: a block of 20 weights may hold 1 to 9 zeros."""

Matrix = Float64[np.ndarray, "out in"]
ScaleGrid = Float64[np.ndarray, "rows groups"]
Block = tuple[tuple[int, int], tuple[slice, slice]]
"""A block's place in the scale grid and the weights that it covers."""


@dataclass(frozen=True)
class ReferenceCodes:
    """Codes by definition, and where they are decided (not within rounding of the border between two codes)."""

    codes: Int8[np.ndarray, "out in"]
    decided: Bool[np.ndarray, "out in"]


@dataclass(frozen=True)
class BestThreshold:
    """The smallest weighted error over the allowed thresholds of a block; not ``feasible`` when none is allowed."""

    error: float
    feasible: bool


def mean_resolution(count: int, epsilon: float) -> float:
    """Relative rounding error of a mean of ``count`` positive numbers summed pairwise and stored with this epsilon."""
    return epsilon * (2 + math.log2(count))


def grid_shape(shape: tuple[int, int], variant: WeightVariant) -> tuple[int, int]:
    """Shape of the scale grid: (1, 1) per tensor, (out, 1) per channel, (out, ceil(in / group_size)) per group."""
    if variant.granularity == "tensor":
        return 1, 1
    return shape[0], -(-shape[1] // _block_width(shape, variant))


def blocks(shape: tuple[int, int], variant: WeightVariant) -> Iterator[Block]:
    """Every scale block of a matrix; the last group of a row is as long as what is left of the row."""
    rows, groups = grid_shape(shape, variant)
    height, width = (shape[0] if variant.granularity == "tensor" else 1), _block_width(shape, variant)
    for row in range(rows):
        for group in range(groups):
            yield (row, group), (slice(row * height, (row + 1) * height), slice(group * width, (group + 1) * width))


def spread(grid: ScaleGrid, shape: tuple[int, int], variant: WeightVariant) -> Matrix:
    """The scale grid spread over the weights that each entry covers."""
    spread_out = np.empty(shape)
    for place, covered in blocks(shape, variant):
        spread_out[covered] = grid[place]
    return spread_out


def mean_absolute(weight: Matrix, variant: WeightVariant) -> ScaleGrid:
    """mean|W| of every scale block."""
    grid = np.empty(grid_shape(_shape(weight), variant))
    for place, covered in blocks(_shape(weight), variant):
        grid[place] = np.abs(weight[covered]).mean()
    return grid


def max_absolute(weight: Matrix, variant: WeightVariant) -> ScaleGrid:
    """max|W| of every scale block."""
    grid = np.empty(grid_shape(_shape(weight), variant))
    for place, covered in blocks(_shape(weight), variant):
        grid[place] = np.abs(weight[covered]).max()
    return grid


def magnitude(weight: Matrix, variant: WeightVariant) -> ScaleGrid:
    """What the declared `scale_range` limits: max|W| of every block where scales are that, mean|W| elsewhere."""
    return max_absolute(weight, variant) if variant.scale_rule == "absmax" else mean_absolute(weight, variant)


def exponents_in_range(weight: Matrix, variant: WeightVariant) -> tuple[float, float]:
    """The powers of two that a weight may be multiplied by so that every block's scale stays in `scale_range`.

    Unlimited ends are infinite, and both are where the weight has only zeros; empty (first above second) where the
    blocks themselves are too far apart.
    """
    grid = magnitude(weight, variant)
    if not grid.any():
        return -math.inf, math.inf
    low, high = variant.scale_range
    lowest = math.ceil(math.log2(low / grid[grid > 0].min())) if low > 0 else -math.inf
    highest = math.floor(math.log2(high / grid.max())) if high < math.inf else math.inf
    return lowest, highest


def least_squares_scale(
    weight: Matrix, codes: Int8[np.ndarray, "out in"], variant: WeightVariant, second_moment: Float64[np.ndarray, " in"]
) -> ScaleGrid:
    """argmin_s sum_j h_j (w_j - s c_j)^2 = sum h w c / sum h c^2 of every block; 0 where the denominator is 0."""
    importance = np.broadcast_to(second_moment, weight.shape)
    grid = np.zeros(grid_shape(_shape(weight), variant))
    for place, covered in blocks(_shape(weight), variant):
        coded = importance[covered] * np.abs(codes[covered])
        if coded.sum() > 0:
            grid[place] = np.sum(coded * weight[covered] * codes[covered]) / coded.sum()
    return grid


def weighted_error(
    weight: Matrix, approximation: Matrix, variant: WeightVariant, second_moment: Float64[np.ndarray, " in"]
) -> ScaleGrid:
    """sum_j h_j (w_j - approximation_j)^2 of every block."""
    grid = np.empty(grid_shape(_shape(weight), variant))
    squares = second_moment * (weight - approximation) ** 2
    for place, covered in blocks(_shape(weight), variant):
        grid[place] = squares[covered].sum()
    return grid


def reference_codes(weight: Matrix, variant: WeightVariant, resolution: float) -> ReferenceCodes:
    """Codes of the rules with a border known beforehand; ``resolution`` is the relative rounding error of the border.

    Raises ``ValueError`` for rule ``optimal``, whose codes follow from `best_threshold` instead.
    """
    if variant.rule == "optimal":
        raise ValueError("the optimal rule is held to its objective (best_threshold), not to codes fixed beforehand")
    unit = max_absolute(weight, variant) if variant.rule == "absmax" else mean_absolute(weight, variant)
    fraction = _tau(variant) if variant.rule == "threshold" else 0.5
    border = fraction * spread(unit, _shape(weight), variant)
    codes = np.where(np.abs(weight) > border, np.sign(weight), 0).astype(np.int8)
    decided = (np.abs(np.abs(weight) - border) > resolution * border) | (weight == 0)
    return ReferenceCodes(codes, decided)


def code_at_tie(sign: int, tie_rule: str) -> int:
    """The code of a weight of this sign that lies exactly on the border between 0 and ``sign``."""
    match tie_rule:
        case "strictly_greater" | "half_even":
            return 0
        case "half_up":
            return max(sign, 0)
        case "at_least" | "away_from_zero":
            return sign
        case _:
            raise ValueError(f"unknown tie rule {tie_rule!r}")


def floor_violations(
    weight: Matrix, codes: Int8[np.ndarray, "out in"], variant: WeightVariant, resolution: float
) -> int:
    """How many weights below tau mean|W| carry a non-zero code."""
    floor = _tau(variant) * spread(mean_absolute(weight, variant), _shape(weight), variant)
    return int(np.sum((codes != 0) & (np.abs(weight) < floor * (1 - resolution))))


def zeros_allowed(count: int, zeros: int) -> bool:
    """Whether ``zeros`` of ``count`` weights is inside the documented zero-fraction band, in exact arithmetic."""
    low, high = ZERO_FRACTION_BAND
    return low * count <= zeros <= high * count


def best_threshold(
    weight: Float64[np.ndarray, " block"],
    importance: Float64[np.ndarray, " block"],
    tau: float,
    resolution: float,
) -> BestThreshold:
    """Try every threshold of a block, each with its least-squares scale, and return the smallest weighted error.

    A threshold is tried when it lies clearly above tau mean|W| and its zero fraction is inside the band.
    """
    magnitude = np.abs(weight)
    floor = tau * magnitude.mean() * (1 + resolution)
    errors = []
    for threshold in np.unique(np.append(magnitude, 0.0)):
        kept = magnitude > max(threshold, floor)
        if kept.any() and zeros_allowed(kept.size, int(np.sum(~kept))):
            mass = importance[kept].sum()
            scale = float(np.sum(importance[kept] * magnitude[kept]) / mass) if mass > 0 else 0.0
            errors.append(float(np.sum(importance * (magnitude - scale * kept) ** 2)))
    return BestThreshold(min(errors), feasible=True) if errors else BestThreshold(float("nan"), feasible=False)


def threshold_structured(weight: Float64[np.ndarray, " block"], codes: Int8[np.ndarray, " block"]) -> bool:
    """Whether one threshold explains the codes: every coded magnitude exceeds every zeroed one, and signs agree."""
    magnitude, coded = np.abs(weight), codes != 0
    signs_agree = bool(np.all(codes[coded] == np.sign(weight[coded])))
    if coded.all() or not coded.any():
        return signs_agree
    return signs_agree and bool(magnitude[coded].min() > magnitude[~coded].max())


def _tau(variant: WeightVariant) -> float:
    if variant.tau is None:
        raise ValueError(f"variant {variant.id} has a threshold but declares no tau")
    return variant.tau


def _block_width(shape: tuple[int, int], variant: WeightVariant) -> int:
    if variant.granularity != "group":
        return shape[1]
    if variant.group_size is None:
        raise ValueError(f"variant {variant.id} has groups but declares no group_size")
    return variant.group_size


def _shape(weight: Matrix) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]
