"""Linear layers with ternary weights and int8 activations.

`BitLinear` trains a latent float weight through straight-through estimators; `TernaryLinear` runs on packed codes.
Both compute linear(codes_x * scale_x, scale * codes, bias): the weight is formed in float32 and then rounded to the
dtype of x, so that the two agree bit for bit.

Source: Ma et al. 2024, "The Era of 1-bit LLMs", section 2.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.functional import linear

from bitnet.config import Codec, Granularity, Rule, ScaleDtype
from bitnet.errors import BitnetError
from bitnet.grid import nearest_codes
from bitnet.packing import bytes_per_row, pack_planes, unpack_planes
from bitnet.quantizer import activation_ste, grid_ste, quantize_planes, weight_ste
from bitnet.scales import memory_dtype, round_scales
from bitnet.ternary import TernarySum, TernaryWeight

ActivationBits = Literal[8] | None


class BitLinear(nn.Module):
    """Linear layer that quantizes its latent float weight anew in every forward pass.

    By a rule, which finds codes and scales; or, given `scale`, to the nearest of the values that codes and these scales
    make, in which case the scales are trained as well. Gradients pass both quantizers unchanged. With `quantize` set to
    False it is a plain linear layer, as finite differences need it.
    """

    weight: nn.Parameter
    scale: nn.Parameter | None
    second_moment: Float[Tensor, "in"] | None

    def __init__(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, "out"] | None = None,
        *,
        rule: Rule = "optimal",
        granularity: Granularity = "channel",
        group_size: int = 128,
        tau: float = 0.05,
        activation_bits: ActivationBits = 8,
        second_moment: Float[Tensor, "in"] | None = None,
        planes: int = 1,
        scale_dtype: ScaleDtype = "float32",
        scale: Float32[Tensor, "planes rows groups"] | None = None,
    ) -> None:
        """A layer over `weight` and `bias`: an `nn.Parameter` is shared, any other tensor is copied.

        Args:
            weight: latent weight, any float dtype.
            bias: added in the dtype of the input.
            rule: weight rule; with `granularity`, `group_size`, `tau` and `second_moment` as in `quantize_weight`.
            granularity: what shares a scale.
            group_size: input features that share a scale under "group".
            tau: threshold in units of mean|W|.
            activation_bits: 8, or None for float activations.
            second_moment: E[x_j^2] of each input feature; kept in its own dtype when the layer is cast.
            planes: ternary planes that the rule gives, see `quantize_planes`.
            scale_dtype: what scales are rounded to.
            scale: scales to begin with, which take the place of the rule and of `planes`.

        Raises:
            BitnetError: if the weight is no matrix; what else `quantize_weight` refuses shows at the first forward.
        """
        super().__init__()
        _check_activation_bits(activation_bits)
        if weight.ndim != 2:
            raise BitnetError(f"a linear weight of shape {tuple(weight.shape)} is not a matrix; pass one as [out, in].")
        self.weight = _parameter(weight)
        self.bias = None if bias is None else _parameter(bias)
        self.out_features, self.in_features = weight.shape
        self.rule, self.granularity, self.group_size, self.tau = rule, granularity, group_size, tau
        self.planes, self.scale_dtype = planes if scale is None else len(scale), scale_dtype
        self.scale = None if scale is None else _parameter(scale)
        self.activation_bits = activation_bits
        self.quantize = True
        #: How far the weight has gone from latent (0) to quantized (1), for training that quantizes step by step.
        self.quantized_share = 1.0
        self.register_buffer("second_moment", second_moment)

    @torch.no_grad()
    def ternary(self) -> TernarySum:
        """Codes and scales of the latent weight as it is now.

        Raises:
            BitnetError: if the latent weight or a scale holds NaN or infinity.
        """
        if self.scale is None:
            options = (self.rule, self.granularity, self.group_size, self.tau, self.second_moment, self.scale_dtype)
            return quantize_planes(self.weight, self.planes, *options)
        scale, group_size = self._stored_scale(self.scale)
        return TernarySum(nearest_codes(self.weight, scale, group_size), scale, group_size)

    @torch.no_grad()
    def _stored_scale(
        self, scale: Float32[Tensor, "planes rows groups"]
    ) -> tuple[Float32[Tensor, "planes rows groups"], int | None]:
        """`scale` as it is stored, and the features that share one; BitnetError as for `ternary`."""
        extremes = (*torch.aminmax(self.weight), *torch.aminmax(scale))  # NaN, where there is one
        if not all(math.isfinite(value) for value in extremes):
            raise BitnetError("a latent weight or scale is NaN or infinite; go back to an earlier state of the layer.")
        stored = round_scales(scale.detach().to(torch.float32, copy=True), self.scale_dtype)
        return stored, self.group_size if self.granularity == "group" else None

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """x W^T + bias in the dtype of x, with W and x quantized unless `quantize` is False."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if not self.quantize:
            return linear(x, self.weight.to(x.dtype), bias)
        if self.scale is None:
            weight = weight_ste(self.weight, self.ternary(), x.dtype)
        else:
            weight = grid_ste(self.weight, self.scale, *self._stored_scale(self.scale), x.dtype)
        if self.quantized_share < 1.0:
            weight = torch.lerp(self.weight.to(x.dtype), weight, self.quantized_share)
        return linear(activation_ste(x) if self.activation_bits else x, weight, bias)

    def extra_repr(self) -> str:
        """Shape and quantization, for `repr`."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, rule={self.rule}, "
            f"granularity={self.granularity}, activation_bits={self.activation_bits}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BitLinear":
        moment = self.second_moment

        def apply(tensor: Tensor) -> Tensor:
            return _keeping_dtype(fn, tensor) if tensor is moment else fn(tensor)

        super()._apply(apply, recurse)  # type: ignore[no-untyped-call]
        return self


class TernaryLinear(nn.Module):
    """Linear layer for inference on packed codes; no float weight is kept.

    Buffers: `packed` uint8 [planes, out, bytes], `scale` float16 or float32 (shape as in `TernarySum`), `bias` [out] or
    None. They keep their dtypes when the layer is cast. Freshly constructed they are zero, for `load_state_dict` to
    fill.
    """

    packed: UInt8[Tensor, "planes out bytes"]
    scale: Float[Tensor, "planes rows groups"]
    bias: Float[Tensor, "out"] | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        codec: Codec = "2bit",
        granularity: Granularity = "channel",
        group_size: int = 128,
        activation_bits: ActivationBits = 8,
        planes: int = 1,
        scale_dtype: ScaleDtype = "float32",
    ) -> None:
        super().__init__()
        _check_activation_bits(activation_bits)
        self.in_features, self.out_features, self.codec = in_features, out_features, codec
        self.group_size = group_size if granularity == "group" else None
        self.activation_bits = activation_bits
        groups = -(-in_features // group_size) if granularity == "group" else 1
        rows = 1 if granularity == "tensor" else out_features
        columns = bytes_per_row(in_features, codec)
        self.register_buffer("packed", torch.zeros(planes, out_features, columns, dtype=torch.uint8))
        self.register_buffer("scale", torch.zeros(planes, rows, groups, dtype=memory_dtype(scale_dtype)))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    def from_ternary(
        cls,
        ternary: TernaryWeight | TernarySum,
        bias: Float[Tensor, "out"] | None = None,
        codec: Codec = "2bit",
        activation_bits: ActivationBits = 8,
        scale_dtype: ScaleDtype = "float32",
    ) -> "TernaryLinear":
        """Layer that holds a packed copy of `ternary` and a copy of `bias`, on their device.

        Raises:
            BitnetError: a scale is beyond `scale_dtype`.
        """
        planes = TernarySum.of(ternary) if isinstance(ternary, TernaryWeight) else ternary
        planes = planes.rounded(scale_dtype)
        count, out_features, in_features = planes.codes.shape
        granularity: Granularity = "channel" if planes.scale.shape[1] == out_features else "tensor"
        layer = cls(
            in_features,
            out_features,
            bias is not None,
            codec=codec,
            granularity="group" if planes.group_size else granularity,
            group_size=planes.group_size or in_features,
            activation_bits=activation_bits,
            planes=count,
            scale_dtype=scale_dtype,
        )
        layer.packed = pack_planes(planes.codes, codec)
        layer.scale = planes.scale.to(layer.scale.dtype, copy=True)
        layer.bias = None if bias is None else bias.detach().clone()
        return layer

    def ternary(self) -> TernarySum:
        """The unpacked codes and the scales.

        Raises:
            BitnetError: if the packed bytes are not canonical.
        """
        codes = unpack_planes(self.packed, self.codec, self.in_features)
        return TernarySum(codes, self.scale.float(), self.group_size)

    @property
    def weight(self) -> Float32[Tensor, "out in"]:
        """The sum of scale * codes, computed anew on each access; writing into it changes nothing."""
        return self.ternary().dequantize()

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """x W^T + bias in the dtype of x, bit for bit as the `BitLinear` that it was packed from."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return linear(activation_ste(x) if self.activation_bits else x, self.ternary().dequantize(x.dtype), bias)

    def extra_repr(self) -> str:
        """Shape and codec, for `repr`."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, codec={self.codec}, "
            f"planes={len(self.packed)}, group_size={self.group_size}, activation_bits={self.activation_bits}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TernaryLinear":
        super()._apply(partial(_keeping_dtype, fn), recurse)  # type: ignore[no-untyped-call]
        return self


def _keeping_dtype(fn: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """Follow `fn` to another device, but not to another dtype: a rounded scale would be another weight."""
    moved = fn(tensor)
    return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach().clone())


def _check_activation_bits(bits: int | None) -> None:
    if bits not in (8, None):
        raise BitnetError(f"activation_bits = {bits} is not allowed; it takes 8 or null.")
