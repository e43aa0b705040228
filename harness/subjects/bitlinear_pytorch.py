"""The package `bitlinear-pytorch`: a copy of the reference code of BitNet b1.58 as one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.subject import Declaration, NotApplicable, QuantizedWeight, WeightVariant
from harness.subjects.libraries import (
    B158,
    EPSILON,
    filled,
    imported,
    tokens_from_values,
    weight_from_values,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8
    from torch import Tensor, nn


class BitlinearPytorch:
    """`bitlinear_pytorch.bitlinear`: two functions and `BitLinear`, which trains and evaluates alike."""

    def __init__(self) -> None:
        self.library, version = imported("bitlinear_pytorch.bitlinear", "bitlinear-pytorch")
        self.declaration = Declaration(
            name="bitlinear-pytorch",
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
        """`weight_quant`, codes and scale read off its values."""
        return weight_from_values(self.library.weight_quant(weight))

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """Scale times codes, which is what `weight_quant` gave."""
        return quantized.codes.float() * quantized.scale.float()

    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """`act_quant`, codes and scales read off its values."""
        return tokens_from_values(self.library.act_quant(x), top=127, floor=EPSILON)

    def training_linear(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        variant: WeightVariant,
        quantize: bool = True,
    ) -> nn.Module:
        """`BitLinear`; it cannot be told not to quantize."""
        if not quantize:
            raise NotApplicable("BitLinear has no switch for its quantizers")
        out, width = weight.shape
        layer = self.library.BitLinear(width, out, bias=bias is not None)
        return filled(layer, weight, bias)
