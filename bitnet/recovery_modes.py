"""What recovery may change: everything, the scales alone, or all but the latent weights."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from bitnet.bitlinear import BitLinear
from bitnet.compressed_model import CompressedModel
from bitnet.config import RecoveryMode


@contextlib.contextmanager
def restricted(compressed: CompressedModel, mode: RecoveryMode) -> Iterator[None]:
    """Within the block only what `mode` names is trainable.

    "weights" trains all parameters, the latent weights among them; "scales" the scales of the ternary weights alone;
    "last_mile" the scales and what is not quantized (norms, biases, tables). Under the latter two the latent weights
    become the very values that they are quantized to and stay there: a code changes only where its scale moves so far
    that another code is nearer to the value.
    """
    if mode == "weights":
        yield
        return
    layers = [layer for layer in compressed.layers.values() if isinstance(layer, BitLinear)]
    for layer in layers:
        _train_scales(layer)
    parameters = list(compressed.model.parameters())
    scales = {id(layer.scale) for layer in layers}
    latent = {id(layer.weight) for layer in layers}
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            trained = id(parameter) in scales if mode == "scales" else id(parameter) not in latent
            parameter.requires_grad_(trained and parameter.requires_grad)
        yield
    finally:
        for parameter, flag in zip(parameters, before, strict=True):
            parameter.requires_grad_(flag)


@torch.no_grad()
def _train_scales(layer: BitLinear) -> None:
    """Give the layer scales of its own that quantize its weight as its rule does now."""
    ternary = layer.ternary()
    layer.weight.copy_(ternary.dequantize(layer.weight.dtype))
    if layer.scale is None:
        layer.scale = nn.Parameter(ternary.scale.clone())
