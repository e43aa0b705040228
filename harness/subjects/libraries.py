"""What the adapters for other people's libraries share.

An adapter calls a library's public functions and layers and nothing else. Most of these libraries return quantized
weights and activations as floating-point values; codes and scales are then read off the values, so that what is judged
is the library's own result.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from harness.errors import AuditError
from harness.subject import QuantizedWeight, WeightVariant

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8
    from torch import Tensor, nn

EPSILON: Final = 1e-5
"""Where the reference code of BitNet b1.58, and what copies it, clamps scales and largest magnitudes from below."""

B158: Final = WeightVariant(
    rule="absmean",
    granularity="tensor",
    group_size=None,
    tau=None,
    tie_rule="half_even",
    scale_rule="absmean",
    second_moment=False,
    scale_range=(EPSILON, 2.0**64),
)
"""Weights as in BitNet b1.58: RoundClip(W / mean|W|) with torch's rounding, the mean clamped from below.

Nobody promises anything for weights whose sum overflows float32; the upper end is where the audit stops asking.
"""


def imported(module: str, distribution: str) -> tuple[Any, str]:
    """A library's module and its version; raises AuditError where it is not installed or cannot be imported."""
    try:
        return importlib.import_module(module), version(distribution)
    except PackageNotFoundError as error:
        raise AuditError(f"{distribution} is not installed; install it, or run `nox -s subjects`") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise AuditError(
            f"{module} of {distribution} cannot be imported ({reason}); install what it needs, or run `nox -s subjects`"
        ) from error


def weight_from_values(values: Float[Tensor, "out in"]) -> QuantizedWeight:
    """Codes and the one scale of a matrix that holds -s, 0 and s; not finite where the values are not."""
    import torch

    scale = values.abs().max().reshape(1, 1)
    codes = torch.where(values.isnan(), 0, values.sign()).to(torch.int8)
    return QuantizedWeight(codes, scale.float() if scale.dtype == torch.float64 else scale)


def tokens_from_values(
    values: Float[Tensor, "... features"], top: int, floor: float
) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
    """Codes and scales of tokens whose largest magnitude, or the floor above it, stands for the code `top`."""
    import torch

    scale = values.float().abs().amax(dim=-1, keepdim=True).clamp(min=floor) / top
    codes = (values.float() / scale).round()
    return torch.where(codes.isnan(), 0, codes).to(torch.int8), scale


def filled(layer: Any, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None) -> nn.Module:
    """A layer with these values in its `.weight` (any shape that fits) and `.bias`."""
    import torch

    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    module: nn.Module = layer
    return module
