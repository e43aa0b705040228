"""How embedding tables and output heads are stored: float32, float16, or codes of 8 or 6 bits with a scale per row."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import BFloat16, Float, Float32, Int8, UInt8
from torch import Tensor

from bitnet.config import TableDtype
from bitnet.errors import BitnetError

#: Largest code of the types that store codes.
CODE_LIMITS: Mapping[TableDtype, int] = MappingProxyType({"int8": 127, "int6": 31})
#: Codes of 6 bits that share bytes, and the bytes.
_CODES, _BYTES = 4, 3


def table_layout(dtype: TableDtype, shape: tuple[int, ...]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of the tensors that store a table [rows, columns], keyed by the last part of their name."""
    rows, columns = shape
    if dtype in CODE_LIMITS:
        scale = (torch.bfloat16, (rows, 1))
        if dtype == "int6":
            return {"codes": (torch.uint8, (rows, -(-columns // _CODES) * _BYTES)), "scale": scale}
        return {"codes": (torch.int8, (rows, columns)), "scale": scale}
    return {"weight": (torch.float16 if dtype == "float16" else torch.float32, (rows, columns))}


def encode_table(name: str, table: Float[Tensor, "rows columns"], dtype: TableDtype) -> dict[str, Tensor]:
    """Tensors that store `table`, as `table_layout` has them.

    Codes are Int8[rows, columns] with scale = absmax / 127 per row and table ~ codes * scale, or of 6 bits with
    absmax / 31, four codes c in three bytes: the bits of sum_i (c_i + 32) * 64^i, the lowest byte first, and rows
    filled up with c = 0.

    The scale is rounded to bfloat16 because that makes the encoding a projection: 127 * scale is exact in float32, so
    encoding a decoded table returns the same codes and scales bit for bit, and what was evaluated is what is stored.

    Raises:
        BitnetError: a value does not fit into float16.
    """
    if dtype in CODE_LIMITS:
        scale = row_scale(table, dtype)
        codes = nearest_codes(table.float(), scale, dtype)
        return {"codes": _pack6(codes) if dtype == "int6" else codes, "scale": scale}
    if dtype == "float16":
        return {"weight": to_float16(f"{name}.weight", table)}
    return {"weight": table.to(torch.float32)}


def decode_table(stored: Mapping[str, Tensor], columns: int) -> Float[Tensor, "rows columns"]:
    """The float32 table behind `encode_table`'s tensors."""
    if "codes" in stored:
        return table_codes(stored["codes"], columns).float() * stored["scale"].float()
    return stored["weight"].float()


def table_codes(stored: Tensor, columns: int) -> Int8[Tensor, "rows columns"]:
    """The codes in the tensor "codes" of a table, whether they take 8 bits in it or 6."""
    return _unpack6(stored, columns) if stored.dtype == torch.uint8 else stored


def row_scale(table: Float[Tensor, "rows columns"], dtype: TableDtype) -> BFloat16[Tensor, "rows 1"]:
    """The scale of each row: its largest magnitude gets the largest code."""
    return (table.float().abs().amax(dim=1, keepdim=True) / CODE_LIMITS[dtype]).to(torch.bfloat16)


def nearest_codes(
    table: Float32[Tensor, "rows columns"], scale: BFloat16[Tensor, "rows 1"], dtype: TableDtype
) -> Int8[Tensor, "rows columns"]:
    """The codes that come nearest to the values; a row of scale 0 has codes 0."""
    limit = CODE_LIMITS[dtype]
    divisor = torch.where(scale == 0, torch.ones_like(scale), scale).float()
    codes = torch.round(table / divisor).clamp(-limit, limit)
    return torch.where(scale == 0, torch.zeros_like(codes), codes).to(torch.int8)


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


def _pack6(codes: Int8[Tensor, "rows columns"]) -> UInt8[Tensor, "rows bytes"]:
    filled = torch.nn.functional.pad(codes, (0, -codes.shape[1] % _CODES))
    digits = filled.reshape(len(codes), -1, _CODES).int() + 32
    number = digits[..., 0] | digits[..., 1] << 6 | digits[..., 2] << 12 | digits[..., 3] << 18
    return torch.stack([number >> shift & 255 for shift in (0, 8, 16)], dim=-1).to(torch.uint8).flatten(1)


def _unpack6(packed: UInt8[Tensor, "rows bytes"], columns: int) -> Int8[Tensor, "rows columns"]:
    low, middle, high = packed.reshape(len(packed), -1, _BYTES).int().unbind(-1)
    number = low | middle << 8 | high << 16
    digits = torch.stack([number >> shift & 63 for shift in (0, 6, 12, 18)], dim=-1).to(torch.int8)
    return (digits.flatten(1) - 32)[:, :columns].contiguous()
