"""Straight-through gradients by autograd of the declared surrogate, in float64, and gradients by finite differences.

The forward value is that of the quantized layer, y = F.linear(Q(x), Q(W), b). The surrogate replaces Q in the backward
pass alone (arXiv:1308.3432): ``identity`` lets the gradient through unchanged; ``clipped`` is the derivative of
clamp(w, -a, a) with a the weight's scale, so that latent weights beyond their scale receive none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that the field uses
from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True)
class LayerPoint:
    """A linear layer at one point: latent parameters and input, and the values that their quantizers give (float64)."""

    weight: Float64[Tensor, "out in"]
    bias: Float64[Tensor, " out"]
    x: Float64[Tensor, "tokens in"]
    quantized_weight: Float64[Tensor, "out in"]
    quantized_x: Float64[Tensor, "tokens in"]
    weight_scale: Float64[Tensor, "out in"]


@dataclass(frozen=True)
class LayerGradients:
    """The output of a layer and the gradients of sum(upstream * output)."""

    output: Float64[Tensor, "tokens out"]
    weight: Float64[Tensor, "out in"]
    bias: Float64[Tensor, " out"]
    x: Float64[Tensor, "tokens in"]


def surrogate_gradients(
    point: LayerPoint, upstream: Float64[Tensor, "tokens out"], ste: Literal["identity", "clipped"]
) -> LayerGradients:
    """Forward with the quantized values, backward with the surrogate's derivative."""
    weight, bias, x = (leaf.detach().clone().requires_grad_() for leaf in (point.weight, point.bias, point.x))
    surrogate = weight if ste == "identity" else torch.clamp(weight, min=-point.weight_scale, max=point.weight_scale)
    through_weight = surrogate + (point.quantized_weight - surrogate).detach()
    through_x = x + (point.quantized_x - x).detach()
    output = F.linear(through_x, through_weight, bias)
    weight_grad, bias_grad, x_grad = torch.autograd.grad(output, (weight, bias, x), grad_outputs=upstream)
    return LayerGradients(output.detach(), weight_grad, bias_grad, x_grad)


def finite_differences(
    function: Callable[[Tensor], Tensor], at: Float64[Tensor, "rows columns"], step: float
) -> Float64[Tensor, "rows columns"]:
    """Central differences of a scalar function in every entry of ``at``; exact for functions up to degree two."""
    gradient = torch.zeros_like(at)
    for index in range(at.numel()):
        nudge = torch.zeros_like(at)
        nudge.view(-1)[index] = step
        gradient.view(-1)[index] = (function(at + nudge) - function(at - nudge)) / (2 * step)
    return gradient
