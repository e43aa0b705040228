"""How scales are stored, and the values that can be: float32, float16, or bytes with a power of two for each row.

Whatever is not float32 keeps the sums of a weight's planes exact in float16, so that a float16 model holds the very
weights of the packed one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float32, Int8, UInt8
from torch import Tensor

from bitnet.config import ScaleDtype
from bitnet.errors import BitnetError

#: Bits that one stored scale takes. The exponent of a row, with bytes, is not among them.
SCALE_BITS: Mapping[ScaleDtype, int] = MappingProxyType({"float32": 32, "float16": 16, "uint8": 8})
#: Largest and smallest positive float16.
_HALF_MAX, _HALF_MIN = 65504.0, 2.0**-24
#: Largest multiple that a byte holds.
_LARGEST = 255

#: `take(name, dtype, shape)` gives a tensor of a file, checked for both.
Take = Callable[[str, torch.dtype, tuple[int, ...]], Tensor]


def memory_dtype(dtype: ScaleDtype) -> torch.dtype:
    """The type that holds every scale that can be stored as `dtype`."""
    return torch.float32 if dtype == "float32" else torch.float16


def round_scales(scale: Float32[Tensor, "planes rows groups"], dtype: ScaleDtype) -> Float32[Tensor, "..."]:
    """The scales as they come back from where they are stored; those that are stored already stay as they are.

    Raises:
        BitnetError: the sum of a group's scales is beyond float16, for types other than float32.
    """
    if dtype == "float32":
        return scale
    if dtype == "float16":
        return share_exponent(scale)
    _check_sum(scale)
    return to_multiples(scale.clamp_min(0.0), row_step(scale.amax(dim=(0, 2)))[:, None])


def row_step(largest: Float32[Tensor, "rows"]) -> Float32[Tensor, "rows"]:
    """The smallest power of two of which a byte can hold enough to reach each row's largest scale."""
    return torch.exp2(torch.ceil(torch.log2(largest / _LARGEST))).clamp_min(_HALF_MIN)


def to_multiples(scales: Float32[Tensor, "..."], step: Float32[Tensor, "..."]) -> Float32[Tensor, "..."]:
    """The nearest multiples of `step` up to 255; what is not zero becomes at least one, of either sign."""
    counts = (scales / step).round()
    counts = torch.where((scales != 0) & (counts == 0), scales.sign(), counts)
    return counts.clamp(-_LARGEST, _LARGEST) * step


def share_exponent(scales: Float32[Tensor, "planes ..."]) -> Float32[Tensor, "planes ..."]:
    """Scales rounded to float16 so that their sums, with any signs, are float16 numbers as well.

    The planes' scales become multiples of one step, 2^-10 of the power of two below their sum, so a float16 model holds
    the sum of the planes exactly; one plane's scale becomes the nearest float16. Where a scale is not zero it stays
    at least one step.

    Raises:
        BitnetError: a sum is beyond float16.
    """
    _check_sum(scales)
    total = scales.double().abs().sum(dim=0)
    # Rounding can lift the sum of several scales over a power of two: then the step is the next one's.
    slack = 1.0 + (len(scales) - 1) * 2.0**-11
    step = torch.exp2(torch.floor(torch.log2((total * slack).clamp_min(_HALF_MIN))) - 10).clamp_min(_HALF_MIN)
    steps = (scales.double() / step).round()
    steps = torch.where((scales != 0) & (steps == 0), scales.double().sign(), steps)
    return (steps * step).to(torch.float32)


def encode_scales(name: str, scale: Float32[Tensor, "planes rows groups"], dtype: ScaleDtype) -> dict[str, Tensor]:
    """The tensors of layer `name` that hold its rounded scales, by the names that they have in a packed file.

    `<layer>.scale` is float32 or float16 as it is; or uint8, in units of 2^`<layer>.scale_exponent`, int8 [rows].
    """
    if dtype != "uint8":
        return {f"{name}.scale": scale.to(memory_dtype(dtype))}
    step = row_step(scale.amax(dim=(0, 2)))
    counts = (scale / step[:, None]).round().to(torch.uint8)
    return {f"{name}.scale": counts, f"{name}.scale_exponent": torch.log2(step).round().to(torch.int8)}


def decode_scales(
    take: Take, name: str, dtype: ScaleDtype, shape: tuple[int, int, int]
) -> Float32[Tensor, "planes rows groups"]:
    """The scales of layer `name` from the tensors that `encode_scales` has made.

    Raises:
        BitnetError: as `take`.
    """
    if dtype != "uint8":
        return take(f"{name}.scale", memory_dtype(dtype), shape).float()
    counts = take(f"{name}.scale", torch.uint8, shape)
    return from_counts(counts, take(f"{name}.scale_exponent", torch.int8, (shape[1],)))


def from_counts(
    counts: UInt8[Tensor, "planes rows groups"], exponent: Int8[Tensor, "rows"]
) -> Float32[Tensor, "planes rows groups"]:
    """The scales that bytes stand for, in units of a power of two for each row."""
    return counts.float() * torch.exp2(exponent.float())[:, None]


def _check_sum(scales: Float32[Tensor, "planes ..."]) -> None:
    total = scales.double().abs().sum(dim=0)
    if bool((total > _HALF_MAX).any()):
        raise BitnetError(
            f"a scale reaches {float(total.max()):.4g}, beyond float16's 65504: store scales with scale_dtype=float32."
        )
