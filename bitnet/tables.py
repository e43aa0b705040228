"""How embedding tables and output heads are stored: float32, float16, or int8 with one scale per row."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import BFloat16, Float, Int8
from torch import Tensor

from bitnet.errors import BitnetError

TableDtype = Literal["float32", "float16", "int8"]

INT8_LIMIT = 127


def encode_table(name: str, table: Float[Tensor, "rows columns"], dtype: TableDtype) -> dict[str, Tensor]:
    """Tensors that store `table`, keyed by the last part of their name.

    float32 and float16 give {"weight": ...}; int8 gives {"codes": Int8[rows, columns], "scale": BFloat16[rows, 1]}
    with scale = absmax / 127 per row and table ~ codes * scale.

    The scale is rounded to bfloat16 because that makes the encoding a projection: 127 * scale is exact in float32, so
    encoding a decoded table returns the same codes and scales bit for bit, and what was evaluated is what is stored.

    Raises:
        BitnetError: a value does not fit into float16.
    """
    if dtype == "int8":
        codes, scale = _int8_rows(table.float())
        return {"codes": codes, "scale": scale}
    if dtype == "float16":
        return {"weight": to_float16(f"{name}.weight", table)}
    return {"weight": table.to(torch.float32)}


def decode_table(stored: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
    """The float32 table behind `encode_table`'s tensors."""
    if "codes" in stored:
        return stored["codes"].float() * stored["scale"].float()
    return stored["weight"].float()


def to_float16(name: str, tensor: Tensor) -> Tensor:
    """`tensor` in float16.

    Raises:
        BitnetError: a finite value of the tensor is beyond float16's range (65,504).
    """
    half = tensor.to(torch.float16)
    if not torch.isfinite(half).all() and torch.isfinite(tensor).all():
        peak = float(tensor.abs().max())
        raise BitnetError(f"Tensor '{name}' reaches {peak:.4g}, beyond float16's 65504, so it cannot be stored so.")
    return half


def _int8_rows(
    table: Float[Tensor, "rows columns"],
) -> tuple[Int8[Tensor, "rows columns"], BFloat16[Tensor, "rows 1"]]:
    scale = (table.abs().amax(dim=1, keepdim=True) / INT8_LIMIT).to(torch.bfloat16)
    # A zero row has scale 0 and codes 0; dividing by one instead keeps it so.
    divisor = torch.where(scale == 0, torch.ones_like(scale), scale).float()
    codes = torch.round(table / divisor).clamp(-INT8_LIMIT, INT8_LIMIT)
    return torch.where(scale == 0, torch.zeros_like(codes), codes).to(torch.int8), scale
