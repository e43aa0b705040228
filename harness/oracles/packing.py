"""Packing by definition, one digit at a time in Python integers: what a subject's packed bytes are compared with.

Formats (every row starts on a byte; a row's last byte is padded with the digit of code 0):

- ``int8``: the two's complement byte of each code;
- ``2bit``: four codes a byte, digit = code + 1, the first code in the two lowest bits;
- ``base3``: five codes a byte, byte = sum of digit_i * 3**i, the first code least significant (3**5 = 243 <= 256).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Int8, UInt8

CODES_PER_BYTE: Final = {"int8": 1, "2bit": 4, "base3": 5}
_RADIX: Final = {"2bit": 4, "base3": 3}


def bytes_per_row(width: int, codec: str) -> int:
    """Bytes that one row of ``width`` codes needs."""
    return math.ceil(width / CODES_PER_BYTE[codec])


def pack_row(codes: Sequence[int], codec: str) -> list[int]:
    """The bytes (0..255) of one row of codes in {-1, 0, +1}."""
    if codec == "int8":
        return [code % 256 for code in codes]
    per_byte, radix = CODES_PER_BYTE[codec], _RADIX[codec]
    packed = []
    for start in range(0, len(codes), per_byte):
        digits = [code + 1 for code in codes[start : start + per_byte]]
        digits += [1] * (per_byte - len(digits))
        packed.append(sum(digit * radix**place for place, digit in enumerate(digits)))
    return packed


def pack(codes: Int8[np.ndarray, "out in"], codec: str) -> UInt8[np.ndarray, "out bytes"]:
    """The packed bytes of a matrix of codes, row by row."""
    rows = [pack_row([int(code) for code in row], codec) for row in codes]
    return np.array(rows, dtype=np.uint8).reshape(len(rows), bytes_per_row(codes.shape[1], codec))


def valid_bytes(codec: str, used: int | None = None) -> frozenset[int]:
    """Every byte that a packer may write when ``used`` of its places hold codes (all of them by default)."""
    used = CODES_PER_BYTE[codec] if used is None else used
    rows: list[list[int]] = [[]]
    for _ in range(used):
        rows = [[*row, code] for row in rows for code in (-1, 0, 1)]
    return frozenset(pack_row(row, codec)[0] for row in rows)
