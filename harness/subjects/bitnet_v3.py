"""The package `bitnet-v3`: its quantizers, and its layer with everything but the quantizers switched off.

The layer has a Hadamard transform, progressive quantization and an estimator of its own; each has a switch, and the
audit uses those, because what is compared is the quantized product. Sources: bitnet_v3/core/quantization.py (whose
functions are "as used in BitNet b1.58") and bitnet_v3/modules/bitlinear.py.
No relation to the registry's package `bitnet`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.subject import Declaration, NotApplicable, QuantizedWeight, WeightVariant
from harness.subjects.libraries import B158, EPSILON, filled, imported

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8
    from torch import Tensor, nn

ROWS = replace(B158, granularity="channel", tie_rule="strictly_greater")


class BitnetV3:
    """`absmean_quantization`, `absmax_quantization` and `EnhancedHBitLinear`."""

    def __init__(self) -> None:
        self.functions, version = imported("bitnet_v3.core.quantization", "bitnet-v3")
        self.modules, _ = imported("bitnet_v3.modules.bitlinear", "bitnet-v3")
        self.declaration = Declaration(
            name="bitnet-v3",
            version=version,
            variants=(ROWS,),
            ste="identity",
            activation_range=(-128, 127),
            activation_top=128,
            activation_floor=EPSILON,
            half_precision="rounded",
            rejects=(),
        )

    def quantize_weight(
        self, weight: Float[Tensor, "out in"], variant: WeightVariant, second_moment: Float[Tensor, " in"] | None = None
    ) -> QuantizedWeight:
        """`absmean_quantization` at 1.58 bits: values and scales, codes read off the values."""
        import torch

        values, scale = self.functions.absmean_quantization(weight, 1.58)
        codes = torch.where(values.isnan(), 0, values.sign()).to(torch.int8)
        return QuantizedWeight(codes, scale.float() if scale.dtype == torch.float64 else scale)

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """Scale times codes, which is what `absmean_quantization` gave."""
        return quantized.codes * quantized.scale

    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """`absmax_quantization` at 8 bits: values and scales, codes read off the values."""
        import torch

        values, scale = self.functions.absmax_quantization(x, 8)
        codes = (values / scale).round()
        return torch.where(codes.isnan(), 0, codes).to(torch.int8), scale.float()

    def training_linear(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        variant: WeightVariant,
        quantize: bool = True,
    ) -> nn.Module:
        """`EnhancedHBitLinear` with 8-bit activations and its plain estimator."""
        if not quantize:
            raise NotApplicable("EnhancedHBitLinear has no switch for the quantizer of its weights")
        out, width = weight.shape
        layer = self.modules.EnhancedHBitLinear(
            width,
            out,
            bias=bias is not None,
            activation_bits=8,
            enable_mpq=False,
            enable_adaptive_hadamard=False,
            enable_enhanced_ste=False,
        )
        return filled(layer, weight, bias)
