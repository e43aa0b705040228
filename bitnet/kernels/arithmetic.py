"""The kernels' arithmetic in plain torch: slow, and the same bits."""

from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int8, Int32
from torch import Tensor

from bitnet.quantizer import TernaryWeight, quantize_activation

# 127 * 2^17 < 2^24: sums over so many inputs are exact in float32, in whatever order the BLAS takes them.
_EXACT_IN_FLOAT32 = 1 << 17


def accumulate(
    codes: Int8[Tensor, "tokens in"], planes: Sequence[TernaryWeight]
) -> Int32[Tensor, "tokens planes groups out"]:
    """Exact integer sums of every plane and scale group."""
    return torch.stack([torch.stack(_group_sums(codes, plane), dim=1) for plane in planes], dim=1)


def multiply(
    x: Float32[Tensor, "tokens in"], planes: Sequence[TernaryWeight], bias: Float32[Tensor, "out"] | None
) -> Float32[Tensor, "tokens out"]:
    """The product that `bitnet.kernels` defines."""
    codes, scale_x = quantize_activation(x)
    total = torch.zeros(len(x), len(planes[0].codes), dtype=torch.float32, device="cpu")
    for plane in planes:
        for g, sums in enumerate(_group_sums(codes, plane)):
            total += sums.float() * plane.scale[:, g]
    total *= scale_x
    return total if bias is None else total + bias


def _group_sums(codes: Int8[Tensor, "tokens in"], plane: TernaryWeight) -> list[Int32[Tensor, "tokens out"]]:
    size = plane.group_size or codes.shape[1]
    dtype = torch.float32 if size <= _EXACT_IN_FLOAT32 else torch.float64
    groups = zip(torch.split(codes, size, dim=1), torch.split(plane.codes, size, dim=1), strict=True)
    return [(x.to(dtype) @ w.to(dtype).T).to(torch.int32) for x, w in groups]
