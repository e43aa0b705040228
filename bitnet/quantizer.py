"""Ternary weight rules, int8 activations and their straight-through estimators.

Every rule maps a float weight to `codes` in {-1, 0, +1} and a `scale` per scale group (the tensor, an output
channel, or `group_size` input features of a channel) with W ~ scale * codes. Statistics are taken in float64.

Sources: Ma et al. 2024, "The Era of 1-bit LLMs", equations 1-3 (absmean, RoundClip, absmax activations);
Li et al. 2016, "Ternary Weight Networks", equations 3-6 (threshold, least-squares scale); Bengio et al. 2013
(straight-through estimator).
"""

import math
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int8
from torch import Tensor

from bitnet.config import Granularity, Rule, ScaleDtype
from bitnet.errors import BitnetError
from bitnet.grid import nearest_values
from bitnet.ternary import TernarySum, equal_groups
from bitnet.ternary import TernaryWeight as TernaryWeight

_CHUNK = 1 << 17  # weights held in float64 at a time: 1 MiB per temporary stays in the cache of a core
_SMALLEST = 2.0**-149  # smallest positive float32


@torch.no_grad()
def quantize_weight(
    weight: Float[Tensor, "out in"],
    rule: Rule = "optimal",
    granularity: Granularity = "channel",
    group_size: int = 128,
    tau: float = 0.05,
    second_moment: Float[Tensor, "in"] | None = None,
) -> TernaryWeight:
    """Ternary codes and scales of a weight matrix.

    Rules, with mean|W| over the scale group, zeros included:

    * "threshold": code = sign(w) where |w| > tau * mean|W| (strictly); scale = mean|W|.
    * "absmean": code = w / mean|W| rounded half to even and clipped to [-1, 1]; scale = mean|W|.
    * "optimal": minimises sum_j h_j (w_j - a c_j)^2 over every threshold and scale a, with h = `second_moment`
      (ones when absent, and in a group where h is zero throughout). The threshold never falls below
      tau * mean|W| and lies between distinct magnitudes; a is the least-squares scale on the support. Only
      thresholds that leave 5-45 % zeros are considered; where ties, exact zeros, tau or a narrow group
      allow none of these, those nearest to the band are.

    A group of zeros has codes 0 and scale 0 under every rule, and so has a group without support under "optimal"
    (tau = 1 and equal magnitudes).

    Scales are computed in float64 and stored as the nearest float32; a positive scale below the smallest float32,
    2^-149, is stored as 2^-149, so that nothing vanishes. No scale overflows: none exceeds the largest
    magnitude, and magnitudes beyond float32 are refused.

    Args:
        weight: any floating dtype, any strides.
        rule: see above.
        granularity: what shares a scale.
        group_size: input features that share a scale under "group"; the last group of a row may be shorter.
        tau: threshold in units of mean|W|, in [0, 1]; unused by "absmean".
        second_moment: E[x_j^2] of each input feature, used by "optimal" only.

    Raises:
        BitnetError: if the weight is not a non-empty, finite float matrix within float32 range, or if another
            argument is out of range.
    """
    _check_options(rule, granularity, group_size, tau)
    _check_weight(weight)
    moment = None if second_moment is None or rule != "optimal" else _checked_moment(second_moment, weight)
    if granularity == "tensor":
        return _quantize_tensor(weight, rule, tau, moment)
    out, width = weight.shape
    columns = width if granularity == "channel" else min(group_size, width)
    codes = torch.empty((out, width), dtype=torch.int8, device=weight.device)
    scale = torch.empty((out, -(-width // columns)), dtype=torch.float32, device=weight.device)
    for rows in _row_chunks(weight):
        values = weight[rows].to(torch.float64)
        for part, groups in equal_groups(width, columns):
            shape = (len(values), groups.stop - groups.start, -1)  # [rows, groups, columns]
            block = values[:, part].reshape(shape)
            h = None if moment is None else moment[part].reshape(block.shape[1:]).expand_as(block).flatten(0, 1)
            block = block.flatten(0, 1)
            found, a = _quantize_groups(block, block.abs().mean(dim=1, keepdim=True), rule, tau, h)
            codes[rows, part] = found.reshape(len(values), -1)
            scale[rows, groups] = a.reshape(len(values), -1)
    return TernaryWeight(codes, scale, group_size if granularity == "group" else None)


@torch.no_grad()
def quantize_planes(
    weight: Float[Tensor, "out in"],
    planes: int,
    rule: Rule = "optimal",
    granularity: Granularity = "channel",
    group_size: int = 128,
    tau: float = 0.05,
    second_moment: Float[Tensor, "in"] | None = None,
    scale_dtype: ScaleDtype = "float32",
) -> TernarySum:
    """`planes` ternary planes: the first is `quantize_weight` of the weight, each other one of what is left.

    Scales are rounded as `scale_dtype` stores them. Raises as `quantize_weight`.
    """
    options = (rule, granularity, group_size, tau, second_moment)
    found = [quantize_weight(weight, *options)]
    for _ in range(planes - 1):
        weight = weight - found[-1].dequantize(weight.dtype)
        found.append(quantize_weight(weight, *options))
    return TernarySum.of(*found).rounded(scale_dtype)


def _quantize_tensor(
    weight: Float[Tensor, "out in"], rule: Rule, tau: float, moment: Float64[Tensor, "in"] | None
) -> TernaryWeight:
    """One scale for the matrix; "optimal" sorts it whole, at about 60 bytes of memory a weight."""
    # An exact sum of row sums: the order of the rows cannot change the scale.
    sums = (weight[rows].to(torch.float64).abs().sum(dim=1) for rows in _row_chunks(weight))
    mean = weight.new_tensor(
        [[math.fsum(x for chunk in sums for x in chunk.tolist()) / weight.numel()]], dtype=torch.float64
    )
    if rule == "optimal":
        h = None if moment is None else moment.expand_as(weight).reshape(1, -1)
        codes, scale = _quantize_groups(weight.to(torch.float64).reshape(1, -1), mean, rule, tau, h)
        return TernaryWeight(codes.reshape(weight.shape), scale)
    parts = [_quantize_groups(weight[rows].to(torch.float64), mean, rule, tau, None) for rows in _row_chunks(weight)]
    return TernaryWeight(torch.cat([codes for codes, _ in parts]), parts[0][1])


def _quantize_groups(
    values: Float64[Tensor, "groups n"],
    mean: Float64[Tensor, "#groups 1"],
    rule: Rule,
    tau: float,
    h: Float64[Tensor, "groups n"] | None,
) -> tuple[Int8[Tensor, "groups n"], Float32[Tensor, "#groups 1"]]:
    """Codes and scale of each row of `values`, a scale group whose mean magnitude is `mean`."""
    if rule == "absmean":
        codes = (values / torch.where(mean > 0, mean, 1.0)).round_().clamp_(-1, 1)
        return codes.to(torch.int8), _to_float32(mean)
    magnitude = values.abs()
    if rule == "threshold":
        support, scale = magnitude > tau * mean, mean
    else:
        smallest, scale = _optimal_support(magnitude, tau * mean, h)
        support = magnitude >= smallest
    return (values.sign() * support).to(torch.int8), _to_float32(scale)


def _optimal_support(
    magnitude: Float64[Tensor, "groups n"], floor: Float64[Tensor, "groups 1"], h: Float64[Tensor, "groups n"] | None
) -> tuple[Float64[Tensor, "groups 1"], Float64[Tensor, "groups 1"]]:
    """Smallest magnitude in the best support of each row (inf for none) and its least-squares scale.

    With the support S the best scale is a = sum_S h|w| / sum_S h, and the error is sum h w^2 - a sum_S h|w|
    (Li et al. 2016, equation 5, weighted): so the largest `gain` = a sum_S h|w| wins, over the prefixes of the
    magnitudes in descending order.
    """
    n = magnitude.shape[1]
    top, weights = _descending(magnitude, h)
    total, mass = weights.cumsum(dim=1), (weights * top).cumsum(dim=1)
    scale = mass / torch.where(total > 0, total, 1.0)
    gain = mass * scale
    allowed = top > floor
    allowed[:, :-1] &= top[:, :-1] > top[:, 1:]  # a threshold lies between distinct magnitudes
    zeros = torch.arange(n - 1, -1, -1, device=top.device)  # left by the prefix that ends here
    # Distance to the band of 5-45 % zeros, in units of 1 / (20 n): integers, so that the bounds are exact.
    distance = torch.maximum(n - 20 * zeros, 20 * zeros - 9 * n).clamp_(min=0)
    distance = torch.where(allowed, distance, 20 * n)
    gain[distance > distance.amin(dim=1, keepdim=True)] = -math.inf
    best = gain.argmax(dim=1, keepdim=True)
    chosen = scale.gather(1, best)
    if h is not None:
        # Where calibration saw nothing on the support every scale fits equally well: take the plain mean.
        plain = top.cumsum(dim=1).gather(1, best) / (best + 1)
        chosen = torch.where(mass.gather(1, best) > 0, chosen, plain)
    found = allowed.any(dim=1, keepdim=True)
    return torch.where(found, top.gather(1, best), math.inf), torch.where(found, chosen, 0.0)


def _descending(
    magnitude: Float64[Tensor, "groups n"], h: Float64[Tensor, "groups n"] | None
) -> tuple[Float64[Tensor, "groups n"], Float64[Tensor, "#groups n"]]:
    """Magnitudes of each row in descending order, and their weights h in the same order.

    numpy's vectorised sort is an order of magnitude faster here than torch's on a CPU.
    """
    negated = magnitude.neg().cpu().numpy()
    if h is None:
        negated.sort(axis=1)
        top = torch.from_numpy(negated).neg_().to(magnitude.device)
        return top, torch.ones_like(top[:1])
    order = torch.from_numpy(np.argsort(negated, axis=1)).to(magnitude.device)
    h = torch.where((h > 0).any(dim=1, keepdim=True), h, 1.0)
    return magnitude.gather(1, order), h.gather(1, order)


def _to_float32(scale: Float64[Tensor, "groups 1"]) -> Float32[Tensor, "groups 1"]:
    rounded = scale.to(torch.float32)
    return torch.where(scale > 0, rounded.clamp(min=_SMALLEST), rounded)


def _row_chunks(weight: Float[Tensor, "out in"]) -> Iterator[slice]:
    """Slices of rows that hold about `_CHUNK` weights each."""
    step = max(1, _CHUNK // weight.shape[1])
    return (slice(start, start + step) for start in range(0, weight.shape[0], step))


def _check_weight(weight: Tensor) -> None:
    shape = "x".join(map(str, weight.shape))
    if weight.ndim != 2 or weight.numel() == 0 or not weight.is_floating_point():
        raise BitnetError(
            f"a weight of shape ({shape}) and type {weight.dtype} cannot be quantized; pass a non-empty float matrix."
        )
    if not bool(torch.isfinite(weight).all()):
        raise BitnetError(f"the weight of shape ({shape}) holds NaN or infinity; repair the model before quantizing.")
    if weight.dtype == torch.float64 and float(weight.abs().max()) > torch.finfo(torch.float32).max:
        raise BitnetError(f"the weight of shape ({shape}) exceeds the range of float32; rescale it.")


def _check_options(rule: str, granularity: str, group_size: int, tau: float) -> None:
    if rule not in get_args(Rule):
        raise BitnetError(f"the rule '{rule}' is unknown; choose one of {', '.join(get_args(Rule))}.")
    if granularity not in get_args(Granularity):
        names = ", ".join(get_args(Granularity))
        raise BitnetError(f"the granularity '{granularity}' is unknown; choose one of {names}.")
    if granularity == "group" and group_size < 1:
        raise BitnetError(f"group_size = {group_size} is not allowed; it takes a whole number from 1.")
    if not 0.0 <= tau <= 1.0:
        raise BitnetError(f"tau = {tau} is not allowed; it takes a number from 0 to 1.")


def _checked_moment(second_moment: Tensor, weight: Float[Tensor, "out in"]) -> Float64[Tensor, "in"]:
    moment = second_moment.to(weight.device, torch.float64)
    if moment.shape != weight.shape[1:]:
        raise BitnetError(
            f"the second moment has shape {tuple(moment.shape)}; give one value for each of the "
            f"{weight.shape[1]} input features."
        )
    if not bool(((moment >= 0) & torch.isfinite(moment)).all()):
        raise BitnetError("the second moment holds negative or non-finite values; calibrate again on finite input.")
    return moment


def quantize_activation(
    x: Float[Tensor, "... features"],
) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
    """Symmetric int8 codes per token (the last axis), x ~ codes * scale with scale = max|x| / 127.

    A code is 127 x / max|x| rounded half to even, computed so that no rounding precedes it: the codes reach
    exactly -127 or 127, and never -128. A zero token has codes 0 and scale 0. A positive scale below 2^-149 is
    stored as 2^-149. A token that holds NaN or infinity gets codes 0 and scale NaN, so that it stays visible.

    Source: Ma et al. 2024, "The Era of 1-bit LLMs", section 2 (activations scaled per token to [-Q, Q]).

    Raises:
        BitnetError: if x is not a float tensor with at least one feature.
    """
    if x.ndim == 0 or x.shape[-1] == 0 or not x.is_floating_point():
        raise BitnetError(
            f"activations of shape {tuple(x.shape)} and type {x.dtype} cannot be quantized; "
            "pass a float tensor with features on its last axis."
        )
    x = x.detach()
    peak = x.abs().amax(dim=-1, keepdim=True).to(torch.float64)
    peak = torch.where(torch.isfinite(peak), peak, math.nan)
    # 127 x is exact in float64 for every x of up to 46 significant bits.
    ratio = (x.to(torch.float64) * 127.0).div_(torch.where(peak == 0, 1.0, peak)).round_()  # NaN where the peak is
    return torch.nan_to_num_(ratio, 0.0).to(torch.int8), _to_float32(peak / 127.0)


class _StraightThrough(torch.autograd.Function):
    """Forward `quantized`, backward the identity to `latent` (Bengio et al. 2013)."""

    @staticmethod
    def forward(_: Any, latent: Tensor, quantized: Tensor) -> Tensor:  # noqa: ARG004
        """Value of `quantized`."""
        return quantized.view_as(quantized)

    @staticmethod
    def backward(_: Any, *gradients: Any) -> tuple[Tensor, None]:
        """The incoming gradient, unchanged; autograd gives it the dtype of `latent`."""
        return gradients[0], None


def weight_ste(
    weight: Float[Tensor, "out in"], ternary: TernaryWeight | TernarySum, dtype: torch.dtype | None = None
) -> Float[Tensor, "out in"]:
    """scale * codes of `ternary` in `dtype` (default: of the weight), whose gradient reaches `weight` unchanged."""
    quantized = ternary.dequantize(dtype or weight.dtype)
    result: Tensor = _StraightThrough.apply(weight, quantized)  # type: ignore[no-untyped-call]
    return result


class _GridStraightThrough(torch.autograd.Function):
    """Forward the nearest values of a grid, backward the identity to the weight and its codes to every scale."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, scale: Tensor, rounded: Tensor, group_size: int | None, dtype: torch.dtype
    ) -> Tensor:
        """The values in `dtype`; what they are made of is kept for the way back."""
        found = nearest_values(weight, rounded, group_size)
        ctx.save_for_backward(found.position, *found.choices)
        ctx.scale_shape, ctx.group_size = scale.shape, group_size
        return found.values.to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """The incoming gradient, unchanged, and the sum of code times gradient over the weights of each scale."""
        position, *choices = ctx.saved_tensors
        (gradient,) = gradients
        if not ctx.needs_input_grad[1]:
            return gradient, None, None, None, None
        (rows, width), parts = gradient.shape, []
        for number, (part, _) in enumerate(equal_groups(width, ctx.group_size or width)):
            chosen = choices[number]
            slope = gradient[:, part].reshape(chosen.shape[1], -1).float()
            value = position[:, part].reshape(slope.shape).long()
            by_value = slope.new_zeros(chosen.shape[1:]).scatter_add_(1, value, slope)
            parts.append((chosen * by_value).sum(dim=2).view(len(chosen), rows, -1))
        return gradient, torch.cat(parts, dim=2).sum_to_size(ctx.scale_shape), None, None, None


def grid_ste(
    weight: Float[Tensor, "out in"],
    scale: Float32[Tensor, "planes rows groups"],
    rounded: Float32[Tensor, "planes rows groups"],
    group_size: int | None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "out in"]:
    """The sums of planes nearest to `weight`, in `dtype`, with a gradient for it, unchanged, and for each scale.

    A scale's gradient is the sum of code times gradient over its weights.

    Args:
        weight: finite values.
        scale: what the gradient is for.
        rounded: the scales as they are stored, which make the grid; their rounding is passed unchanged.
        group_size: input features that share a scale; None for one scale a row.
        dtype: of the result; None takes the weight's.
    """
    options = (rounded, group_size, dtype or weight.dtype)
    result: Tensor = _GridStraightThrough.apply(weight, scale, *options)  # type: ignore[no-untyped-call]
    return result


def activation_ste(x: Float[Tensor, "... features"]) -> Float[Tensor, "... features"]:
    """codes * scale of `quantize_activation(x)` in the dtype of x, whose gradient reaches `x` unchanged."""
    codes, scale = quantize_activation(x)
    result: Tensor = _StraightThrough.apply(x, torch.mul(codes, scale).to(x.dtype))  # type: ignore[no-untyped-call]
    return result
