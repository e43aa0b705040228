"""torchao's prototype of BitNet b1.58 training: a weight subclass behind `torch.nn.Linear`.

Source: torchao/prototype/quantized_training/bitnet.py and int8.py. The prototype cites figure 3 of the paper's training
tips for its activations, which clamps the largest magnitude of a token at 1e-5.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from harness.subject import Declaration, NotApplicable, QuantizedWeight, WeightVariant
from harness.subjects.libraries import B158, EPSILON, filled, imported

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8
    from torch import Tensor, nn


class Torchao:
    """`bitnet_training`, and the functions that its layer calls."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchao warns of kernels for processors that it does not find
            self.bitnet, version = imported("torchao.prototype.quantized_training.bitnet", "torchao")
            self.int8, _ = imported("torchao.prototype.quantized_training.int8", "torchao")
            self.quantization, _ = imported("torchao.quantization", "torchao")
        self.declaration = Declaration(
            name="torchao",
            version=version,
            variants=(B158,),
            ste="identity",
            activation_range=(-128, 127),
            activation_top=127,
            activation_floor=EPSILON,
            half_precision="rounded",
            rejects=(),
        )

    def quantize_weight(
        self, weight: Float[Tensor, "out in"], variant: WeightVariant, second_moment: Float[Tensor, " in"] | None = None
    ) -> QuantizedWeight:
        """`get_bitnet_scale` and `quantize_bitnet_weight`."""
        scale = self.bitnet.get_bitnet_scale(weight)
        return QuantizedWeight(self.bitnet.quantize_bitnet_weight(weight, scale), scale.reshape(1, 1))

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """Scale times codes, as the layer multiplies its integer product."""
        return quantized.codes * quantized.scale

    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """`quantize_int8_rowwise` with the epsilon that the layer gives it."""
        codes, scale = self.int8.quantize_int8_rowwise(x.reshape(-1, x.shape[-1]), eps=EPSILON)
        return codes.reshape(x.shape), scale.float().reshape(*x.shape[:-1], 1)

    def training_linear(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        variant: WeightVariant,
        quantize: bool = True,
    ) -> nn.Module:
        """`torch.nn.Linear` under `quantize_(..., bitnet_training())`; it cannot be told not to quantize."""
        import torch

        if not quantize:
            raise NotApplicable("bitnet_training has no switch for its quantizers")
        out, width = weight.shape
        layer = torch.nn.Linear(width, out, bias=bias is not None)
        filled(layer, weight, bias)
        self.quantization.quantize_(layer, self.bitnet.bitnet_training())
        return layer
