"""Packing by definition, one digit at a time in Python integers: what a subject's packed bytes are compared with.

Formats (every row starts on a byte; a row's last byte is padded with the digit of code 0):

- ``int8``: the two's complement byte of each code;
- ``2bit``: four codes a byte, digit = code + 1, the first code in the two lowest bits;
- ``base3``: five codes a byte, byte = sum of digit_i * 3**i, the first code least significant (3**5 = 243 <= 256);
- ``transformers``: as ``pack_weights`` there, along its first axis, here a row: R = ceil(w / 4) bytes for w codes; byte
  c holds codes c, c + R, c + 2R and c + 3R, the first in the two lowest bits; digits beyond w are 0, that is -1;
- ``tq2_0`` and ``tq1_0``: ggml's blocks of 256 codes (rows padded with 0), then a float16 scale, here 1 for a block
  with a code other than 0. A tq2_0 byte holds codes 32 apart, a tq1_0 byte five codes 32 or 16 apart (four, 4 apart, in
  the last four bytes), the first most significant, as the fraction ceil(256 q / 243) of 256.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Int8, UInt8

CODES_PER_BYTE: Final = {"int8": 1, "2bit": 4, "base3": 5}
BLOCK: Final = 256
BLOCK_CODECS: Final = ("tq1_0", "tq2_0")
FORMATS: Final = (*CODES_PER_BYTE, "transformers", *BLOCK_CODECS)
"""Every packing whose bytes are known here."""
_RADIX: Final = {"2bit": 4, "base3": 3}


def bytes_per_row(width: int, codec: str) -> int:
    """Bytes that one row of ``width`` codes needs."""
    return math.ceil(width / CODES_PER_BYTE[codec])


def pack_row(codes: Sequence[int], codec: str) -> list[int]:
    """The bytes (0..255) of one row of codes in {-1, 0, +1}."""
    if codec == "int8":
        return [code % 256 for code in codes]
    if codec == "transformers":
        length = math.ceil(len(codes) / 4)
        parts = [[code + 1 for code in codes[start : start + length]] for start in range(0, 4 * length, length)]
        return [sum(part[byte] << 2 * i for i, part in enumerate(parts) if byte < len(part)) for byte in range(length)]
    if codec in BLOCK_CODECS:
        padded = [*codes, *[0] * (-len(codes) % BLOCK)]
        blocks = [padded[start : start + BLOCK] for start in range(0, len(padded), BLOCK)]
        return [byte for block in blocks for byte in _block(block, codec)]
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
    return np.array(rows, dtype=np.uint8)


def _block(codes: Sequence[int], codec: str) -> list[int]:
    """The bytes of one block of 256 codes: its digits, then its scale in float16, lowest byte first."""
    digits = [code + 1 for code in codes]
    if codec == "tq2_0":
        packed = [
            sum(digits[half + byte + 32 * place] << 2 * place for place in range(4))
            for half in (0, 128)
            for byte in range(32)
        ]
    else:
        packed = [_fraction(digits[byte : byte + 160 : 32]) for byte in range(32)]
        packed += [_fraction(digits[160 + byte : 240 : 16]) for byte in range(16)]
        packed += [_fraction([*digits[240 + byte :: 4], 0]) for byte in range(4)]
    return [*packed, 0x00, 0x3C if any(codes) else 0x00]  # 0x3C00 is 1.0


def _fraction(digits: Sequence[int]) -> int:
    """Five base-3 digits, the first most significant, as the smallest byte of at least q / 243 of 256."""
    value = sum(digit * power for digit, power in zip(digits, (81, 27, 9, 3, 1), strict=True))
    return -(-value * 256 // 243)


def valid_bytes(codec: str, used: int | None = None) -> frozenset[int]:
    """Every byte that a packer may write when ``used`` of its places hold codes (all of them by default)."""
    used = CODES_PER_BYTE[codec] if used is None else used
    rows: list[list[int]] = [[]]
    for _ in range(used):
        rows = [[*row, code] for row in rows for code in (-1, 0, 1)]
    return frozenset(pack_row(row, codec)[0] for row in rows)
