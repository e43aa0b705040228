"""Exact codecs between ternary codes and bytes: 8, 2 and 1.6 bits a weight.

Every row starts on a byte boundary. A digit is code + 1, so 0, 1, 2 stand for -1, 0, +1.

* "int8": one two's complement byte a weight.
* "2bit": four digits a byte, low bits first.
* "base3": five digits a byte, byte = sum_i digit_i * 3^i, the first weight least significant.

The last byte of a row is filled up with digit 1 (code 0). That form is canonical: `unpack` accepts nothing else,
so equal codes have equal bytes.
"""

from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Int8, UInt8
from torch import Tensor

from bitnet.config import Codec
from bitnet.errors import BitnetError


class _Digits(NamedTuple):
    per_byte: int
    base: int


_DIGITS: dict[str, _Digits] = {"2bit": _Digits(4, 4), "base3": _Digits(5, 3)}

CODECS: tuple[Codec, ...] = ("int8", "2bit", "base3")


def bytes_per_row(width: int, codec: Codec) -> int:
    """Bytes that a row of `width` codes takes.

    Raises:
        BitnetError: for an unknown codec or a negative width.
    """
    if width < 0:
        raise BitnetError(f"a row of {width} weights does not exist; pass a width of at least 0.")
    return width if codec == "int8" else -(-width // _digits(codec).per_byte)


def pack(codes: Int8[Tensor, "out in"], codec: Codec) -> UInt8[Tensor, "out bytes"]:
    """Bytes of the codes, row by row; no rows give no bytes.

    Raises:
        BitnetError: for an unknown codec, or codes that are not an int8 matrix over {-1, 0, +1}.
    """
    if codes.ndim != 2 or codes.dtype != torch.int8:
        raise BitnetError(
            f"codes of shape {tuple(codes.shape)} and type {codes.dtype} cannot be packed; pass an int8 matrix."
        )
    if bool(((codes < -1) | (codes > 1)).any()):
        raise BitnetError("the codes hold a value outside -1, 0, +1; pack the codes, not the scaled weights.")
    rows, width = codes.shape
    columns = bytes_per_row(width, codec)
    if codec == "int8":
        return codes.contiguous().view(torch.uint8).clone()
    per_byte, base = _digits(codec)
    digits = torch.ones((rows, columns * per_byte), dtype=torch.uint8, device=codes.device)
    digits[:, :width] += codes.view(torch.uint8)  # -1 is 255, which wraps to digit 0
    digits = digits.view(rows, columns, per_byte)
    packed = digits[:, :, per_byte - 1].clone()
    for i in range(per_byte - 2, -1, -1):  # Horner's scheme
        packed.mul_(base).add_(digits[:, :, i])
    return packed


def pack_planes(codes: Int8[Tensor, "planes out in"], codec: Codec) -> UInt8[Tensor, "planes out bytes"]:
    """`pack` of every plane."""
    return pack(codes.flatten(0, 1), codec).view(*codes.shape[:2], -1)


def unpack_planes(packed: UInt8[Tensor, "planes out bytes"], codec: Codec, width: int) -> Int8[Tensor, "planes out in"]:
    """`unpack` of every plane."""
    return unpack(packed.flatten(0, 1), codec, width).view(*packed.shape[:2], width)


def unpack(packed: UInt8[Tensor, "out bytes"], codec: Codec, width: int) -> Int8[Tensor, "out in"]:
    """Codes of packed rows of `width` weights.

    Raises:
        BitnetError: for an unknown codec, bytes of another shape or type, a byte that no codes pack to, or
            padding that is not canonical.
    """
    columns = bytes_per_row(width, codec)
    if packed.ndim != 2 or packed.dtype != torch.uint8 or packed.shape[1] != columns:
        raise BitnetError(
            f"packed rows of shape {tuple(packed.shape)} and type {packed.dtype} do not fit {width} weights in codec "
            f"'{codec}'; pass a uint8 matrix with {columns} bytes a row."
        )
    _check_digits(packed, codec)
    if codec == "int8":
        return packed.contiguous().view(torch.int8).clone()
    per_byte, base = _digits(codec)
    spare = columns * per_byte - width
    if spare and bool((packed[:, -1] // base ** (per_byte - spare) != _padding(spare, base)).any()):
        raise BitnetError(f"the last byte of a row of {width} weights in codec '{codec}' is not filled up with code 0.")
    # The look-up yields bytes: for "2bit" as one int32, which is several times faster to gather.
    codes = _table(codec).to(packed.device).index_select(0, packed.reshape(-1).to(torch.int32)).view(torch.int8)
    return codes.view(len(packed), columns * per_byte)[:, :width].contiguous()


def _digits(codec: str) -> _Digits:
    if codec not in _DIGITS:
        raise BitnetError(f"the codec '{codec}' is unknown; choose one of {', '.join(CODECS)}.")
    return _DIGITS[codec]


def _padding(count: int, base: int) -> int:
    """Value of `count` digits 1."""
    return sum(base**i for i in range(count))


def _check_digits(packed: UInt8[Tensor, "out bytes"], codec: Codec) -> None:
    """Refuse bytes that stand for no codes."""
    if codec == "int8":
        value, largest = packed + 1, 2  # 255 (code -1) wraps to 0
    elif codec == "2bit":
        value, largest = packed & (packed >> 1) & 0b01010101, 0  # both bits of a digit set: digit 3
    else:
        value, largest = packed, 3**5 - 1
    if packed.numel() and int(value.max()) > largest:
        raise BitnetError(f"the packed weight holds a byte that codec '{codec}' never writes; pack it again.")


@cache
def _table(codec: Codec) -> Tensor:
    """Codes of every byte: [256, 5] int8 for "base3", [256, 1] int32 (four int8 codes) for "2bit"."""
    per_byte, base = _digits(codec)
    place = torch.tensor([base**i for i in range(per_byte)])
    codes = (torch.arange(256).unsqueeze(1) // place % base - 1).to(torch.int8)
    return codes.view(torch.int32) if per_byte == 4 else codes
