"""The package `bitlinear`: a layer with a choice of measures, here those of BitNet b1.58, and its frozen form.

The layer normalises its input by default; the audit makes it without (`norm=None`, an argument of its own), so that
what is compared is the quantized product. Sources: bitlinear/bitlinear.py and its README, which calls the layer a
drop-in replacement for torch.nn.Linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.subject import Declaration, QuantizedWeight, WeightVariant
from harness.subjects.libraries import B158, EPSILON, filled, imported

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8
    from torch import Tensor, nn

WEIGHT_RANGE: Final = (-1, 1)
ACTIVATION_RANGE: Final = (-128, 127)


class Bitlinear:
    """`BitLinear` with `weight_measure="AbsMean"`, and `freeze`."""

    def __init__(self) -> None:
        self.library, version = imported("bitlinear.bitlinear", "bitlinear")
        self.declaration = Declaration(
            name="bitlinear",
            version=version,
            variants=(B158,),
            ste="identity",
            scale_convention="divide",
            activation_range=ACTIVATION_RANGE,
            activation_top=128,
            activation_floor=EPSILON,
            half_precision="rounded",
            rejects=(),
        )

    def quantize_weight(
        self, weight: Float[Tensor, "out in"], variant: WeightVariant, second_moment: Float[Tensor, " in"] | None = None
    ) -> QuantizedWeight:
        """`scale` with `AbsMean`, then `round_clamp`, as the layer calls them."""
        scale = self.library.scale(weight, WEIGHT_RANGE, self.library.AbsMean(), keepdim=False, eps=EPSILON)
        return QuantizedWeight(_codes(self.library.round_clamp(weight * scale, WEIGHT_RANGE)), scale.reshape(1, 1))

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """Codes over the scale, which is what the layer's output is divided by."""
        return quantized.codes.float() / quantized.scale.float()

    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """`scale` with `AbsMax`, then `round_clamp`, as the layer calls them; its scales divide."""
        scale = self.library.scale(x, ACTIVATION_RANGE, self.library.AbsMax(), keepdim=True, eps=EPSILON)
        return _codes(self.library.round_clamp(x * scale, ACTIVATION_RANGE)), 1 / scale.float()

    def training_linear(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        variant: WeightVariant,
        quantize: bool = True,
    ) -> nn.Module:
        """`BitLinear`; without any measure it does not quantize."""
        out, width = weight.shape
        measures = {} if quantize else {"weight_measure": None, "activation_measure": None}
        layer = self.library.BitLinear(
            width, out, bias=bias is not None, norm=None, **({"weight_measure": "AbsMean"} | measures)
        )
        return filled(layer, weight, bias)

    def inference_linear(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None, variant: WeightVariant
    ) -> nn.Module:
        """What `freeze` makes of the layer."""
        from torch import nn

        model = nn.Sequential(self.training_linear(weight, bias, variant))
        self.library.freeze(model)
        return model[0]


def _codes(values: Float[Tensor, "*shape"]) -> Int8[Tensor, "*shape"]:
    import torch

    return torch.where(values.isnan(), 0, values.detach().round()).to(torch.int8)
