"""The BitNet layers of Hugging Face transformers: `AutoBitLinear` (online and offline) and the packed `BitLinear`.

transformers trains with `AutoBitLinear` online and runs what was trained in one of two layers on codes: `AutoBitLinear`
offline, which multiplies by its scale, or `BitLinear` on 2-bit bytes, which divides. There is one subject for each way;
both have the online layer for training. Source: transformers/integrations/bitnet.py. Its operations are compiled when
called; the audit runs them as they are written (`torch.compiler.set_stance`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

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
    from jaxtyping import Float, Float32, Int8, UInt8
    from torch import Tensor, nn

Given = ParamSpec("Given")
Result = TypeVar("Result")


def _uncompiled(operation: Callable[Given, Result]) -> Callable[Given, Result]:
    @functools.wraps(operation)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        import torch

        with torch.compiler.set_stance("force_eager"):
            return operation(*args, **kwargs)

    return run


class _TransformersLayers:
    """What both ways have in common: online quantization, and bytes."""

    declaration: Declaration

    def __init__(self) -> None:
        self.library, self.version = imported("transformers.integrations.bitnet", "transformers")

    @_uncompiled
    def pack(self, codes: Int8[Tensor, "out in"], codec: str) -> UInt8[Tensor, "out bytes"]:
        """`pack_weights`, which packs along the first axis, of the transposed codes."""
        _known(codec)
        packed: UInt8[Tensor, "bytes out"] = self.library.pack_weights(codes.T)
        return packed.T

    @_uncompiled
    def unpack(self, packed: UInt8[Tensor, "out bytes"], codec: str, width: int) -> Int8[Tensor, "out in"]:
        """`unpack_weights` of the transposed bytes, without the padding."""
        import torch

        _known(codec)
        codes: Int8[Tensor, "in out"] = self.library.unpack_weights(packed.T, dtype=torch.int8)
        return codes[:width].T

    def training_linear(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        variant: WeightVariant,
        quantize: bool = True,
    ) -> nn.Module:
        """`AutoBitLinear` with `online_quant`; it cannot be told not to quantize."""
        if not quantize:
            raise NotApplicable("AutoBitLinear has no switch for its quantizers")
        return filled(self._auto_bit_linear(weight, bias, online=True), weight, bias)

    def _auto_bit_linear(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None, *, online: bool
    ) -> Any:
        out, width = weight.shape
        layer = self.library.AutoBitLinear(width, out, bias=bias is not None, online_quant=online)
        layer.forward = _uncompiled(layer.forward)
        return layer

    @_uncompiled
    def _weight(self, weight: Float[Tensor, "out in"]) -> QuantizedWeight:
        return weight_from_values(self.library.WeightQuant.apply(weight))


class AutoBitLinear(_TransformersLayers):
    """Inference through `AutoBitLinear` offline: codes in floating point, a scale that multiplies the output."""

    def __init__(self) -> None:
        super().__init__()
        self.declaration = _declaration("transformers-autobitlinear", self.version, "multiply")

    def quantize_weight(
        self, weight: Float[Tensor, "out in"], variant: WeightVariant, second_moment: Float[Tensor, " in"] | None = None
    ) -> QuantizedWeight:
        """`WeightQuant`, codes and scale read off its values."""
        return self._weight(weight)

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """Scale times codes, which is what the offline layer computes with."""
        return quantized.codes.float() * quantized.scale.float()

    @_uncompiled
    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """`ActQuant`, codes and scales read off its values."""
        return tokens_from_values(self.library.ActQuant.apply(x), top=127, floor=EPSILON)

    def inference_linear(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None, variant: WeightVariant
    ) -> nn.Module:
        """`AutoBitLinear` without `online_quant`, on codes."""
        quantized = self._weight(weight)
        layer = self._auto_bit_linear(weight, bias, online=False)
        layer.weight_scale.fill_(quantized.scale.item())
        return filled(layer, quantized.codes, bias)


class BitLinear(_TransformersLayers):
    """Inference through `BitLinear`: 2-bit bytes, a scale that divides the output."""

    def __init__(self) -> None:
        super().__init__()
        self.declaration = _declaration("transformers-bitlinear", self.version, "divide")

    def quantize_weight(
        self, weight: Float[Tensor, "out in"], variant: WeightVariant, second_moment: Float[Tensor, " in"] | None = None
    ) -> QuantizedWeight:
        """`WeightQuant`, codes and scale read off its values; the scale as `BitLinear` stores it, one over the mean."""
        quantized = self._weight(weight)
        return replace(quantized, scale=1 / quantized.scale.clamp(min=EPSILON))

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """Codes over the scale, which is what the layer computes with."""
        return quantized.codes.float() / quantized.scale.float()

    @_uncompiled
    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """`BitLinear.activation_quant`; its scales divide."""
        codes, scale = self.library.BitLinear(4, 4, bias=False).activation_quant(x)
        return codes, (1 / scale.float())

    def inference_linear(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None, variant: WeightVariant
    ) -> nn.Module:
        """`BitLinear` on packed codes."""
        import torch

        quantized = self.quantize_weight(weight, variant)
        out, width = weight.shape
        layer = self.library.BitLinear(width, out, bias=bias is not None, dtype=torch.float32)
        layer.forward = _uncompiled(layer.forward)
        layer.weight_scale.fill_(quantized.scale.item())
        return filled(layer, self.library.pack_weights(quantized.codes.clone()), bias)


def _declaration(name: str, version: str, convention: Any) -> Declaration:
    return Declaration(
        name=name,
        version=version,
        variants=(B158,),
        codecs=("transformers",),
        ste="identity",
        scale_convention=convention,
        activation_range=(-128, 127),
        activation_top=127,
        activation_floor=EPSILON,
        half_precision="rounded",
        rejects=(),
    )


def _known(codec: str) -> None:
    if codec != "transformers":
        raise ValueError(f"transformers has one packing, which the audit calls 'transformers', and not {codec!r}")
