"""Gradients of a whole ternary language model: plain transformers modules, the surrogate put in by hooks, autograd.

`harness.oracles.ste` does the same for one layer. Here the layers stand in their model, so that the gradient has to
come through all the layers behind: a wrong input gradient in one of them shows in the layers before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

Quantizer = Callable[[Tensor], Tensor]
"""The values that stand for an activation once it is quantized, in the activation's own dtype."""


def surrogate_gradients(
    model: PreTrainedModel,
    layers: Mapping[str, nn.Module],
    quantize_input: Quantizer,
    tokens: Int64[Tensor, "batch length"],
) -> dict[str, Float[Tensor, "out in"]]:
    """The gradient of the language-model loss in each layer's weight, under the identity surrogate.

    ``model`` is a plain model whose ``layers`` hold scale * codes, so that the gradient in that weight is the one that
    the identity gives to a latent weight. Inputs of the layers are quantized forward and passed unchanged backward.
    """

    def quantize(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = arguments
        return (quantize_input(x).detach() + (x - x.detach()), *others)  # exactly Q(x): x - x is 0

    hooks = [layer.register_forward_pre_hook(quantize) for layer in layers.values()]
    weights = [layer.get_parameter("weight") for layer in layers.values()]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        gradients = torch.autograd.grad(loss, weights)
    finally:
        for hook in hooks:
            hook.remove()
        for weight, flag in zip(weights, before, strict=True):
            weight.requires_grad_(flag)
    return {
        name: gradient.T if isinstance(layer, Conv1D) else gradient
        for (name, layer), gradient in zip(layers.items(), gradients, strict=True)
    }


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """The Euclidean norm of the difference over that of what was expected; NaN where either holds one."""
    difference = (actual.detach().double() - expected.detach().double()).norm() / expected.detach().double().norm()
    return float(difference)
