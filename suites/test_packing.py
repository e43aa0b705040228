"""Packing: codes go into bytes and come back exactly, on every shape, and nothing else is accepted.

A codec whose format is published here (int8, 2bit, base3; see `harness.oracles.packing`) is held to it byte by byte;
any other codec of a subject is held to the round trip, to row independence and to rejecting what is not a code.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.evidence import Evidence
from harness.oracles import packing as oracle
from harness.subject import Packs, Subject, require
from suites.strategies import code_matrices
from suites.variants import of_int8_format, of_known_format, of_published_format
from suites.weights import rejected, require_promise

exact_packing = pytest.mark.criterion("A.packing-exact")
as_declared = pytest.mark.criterion("A.as-declared")
WIDTHS: Final = range(1, 41)

GOLDEN: Final = {
    # codes of one row -> its bytes, worked out by hand
    "int8": [([-1, 0, 1], [0xFF, 0x00, 0x01])],
    "2bit": [
        ([-1, -1, -1, -1], [0b00_00_00_00]),
        ([1, 1, 1, 1], [0b10_10_10_10]),
        ([-1, 0, 1, 0], [0b01_10_01_00]),  # the first code in the lowest bits
        ([1], [0b01_01_01_10]),  # padded with the digit of 0
        ([0, 0, 0, 0, -1], [0b01_01_01_01, 0b01_01_01_00]),
    ],
    "base3": [
        ([-1, -1, -1, -1, -1], [0]),
        ([1, 1, 1, 1, 1], [242]),  # 2 (1 + 3 + 9 + 27 + 81)
        ([0, 0, 0, 0, 0], [121]),
        ([1, 0, -1, 0, 1], [2 + 3 + 0 + 27 + 162]),  # the first code least significant
        ([-1], [0 + 3 + 9 + 27 + 81]),  # padded with the digit of 0
        ([0, 0, 0, 0, 0, 1], [121, 2 + 3 + 9 + 27 + 81]),
    ],
}


def random_codes(rows: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 2, (rows, width), dtype=torch.int8, generator=generator)


@exact_packing
@of_published_format
def test_golden_bytes(subject: Subject, codec: str) -> None:
    for codes, packed in GOLDEN[codec]:
        row = require(subject, Packs).pack(torch.tensor([codes], dtype=torch.int8), codec)
        assert row.dtype == torch.uint8
        assert row.tolist() == [packed], f"codes {codes}"


@exact_packing
@as_declared
@of_known_format
def test_every_width_from_1_to_40_packs_by_the_format(subject: Subject, codec: str, seed: int) -> None:
    for width in WIDTHS:
        codes = random_codes(5, width, seed + width)
        packed = require(subject, Packs).pack(codes.clone(), codec)
        np.testing.assert_array_equal(packed.numpy(), oracle.pack(codes.numpy(), codec))


@exact_packing
def test_every_width_from_1_to_40_comes_back(subject: Subject, codec: str, seed: int) -> None:
    packs = require(subject, Packs)
    for width in WIDTHS:
        codes = random_codes(5, width, seed + width)
        restored = packs.unpack(packs.pack(codes.clone(), codec), codec, width)
        assert restored.dtype == torch.int8
        assert torch.equal(restored, codes), f"width {width}"


@exact_packing
@given(codes=st.integers(1, 70).flatmap(code_matrices))
def test_any_codes_come_back(subject: Subject, codec: str, codes: torch.Tensor) -> None:
    packs = require(subject, Packs)
    before = codes.clone()
    assert torch.equal(packs.unpack(packs.pack(codes, codec), codec, codes.shape[1]), before)
    assert torch.equal(codes, before), "packing changed the codes that it was given"


@exact_packing
@given(codes=st.integers(1, 30).flatmap(code_matrices))
def test_rows_are_packed_independently(subject: Subject, codec: str, codes: torch.Tensor) -> None:
    packs = require(subject, Packs)
    rows = [packs.pack(codes[row : row + 1].clone(), codec) for row in range(codes.shape[0])]
    assert torch.equal(packs.pack(codes.clone(), codec), torch.cat(rows))


@exact_packing
def test_memory_layout_does_not_matter(subject: Subject, codec: str, seed: int) -> None:
    packs, codes = require(subject, Packs), random_codes(6, 11, seed)
    packed = packs.pack(codes.clone(), codec)
    assert torch.equal(packs.pack(codes.T.contiguous().T, codec), packed)
    assert torch.equal(packs.unpack(packed.T.contiguous().T, codec, 11), codes)


@exact_packing
@of_published_format
def test_size_is_the_codecs(subject: Subject, codec: str, evidence: Evidence) -> None:
    """ceil(width / codes per byte) bytes a row; 8, 2 and 1.6 bits a weight where the width divides."""
    packs, per_byte = require(subject, Packs), oracle.CODES_PER_BYTE[codec]
    for width in WIDTHS:
        packed = packs.pack(torch.zeros(3, width, dtype=torch.int8), codec)
        assert packed.shape == (3, math.ceil(width / per_byte))
    whole = packs.pack(torch.zeros(4, 960, dtype=torch.int8), codec)
    evidence.figure(f"bits_per_weight_{codec}", 8 * whole.numel() / (4 * 960))
    assert 8 * whole.numel() / (4 * 960) == 8 / per_byte


@pytest.mark.criterion("2.int8-storage")
@of_int8_format
def test_int8_storage_is_a_quarter_of_float32(subject: Subject, codec: str, seed: int, evidence: Evidence) -> None:
    """One byte for four, less the float32 scale of each output channel, and the codes come back."""
    packs, codes = require(subject, Packs), random_codes(576, 576, seed)
    packed = packs.pack(codes.clone(), codec)
    ratio = codes.numel() * 4 / (packed.numel() * packed.element_size() + codes.shape[0] * 4)
    evidence.figure("int8_storage_ratio", ratio, unit="x")
    assert torch.equal(packs.unpack(packed, codec, 576), codes)
    assert 3.8 <= ratio <= 4.0


# --------------------------------------------------------------------------- what must be rejected


@pytest.mark.criterion("A.packing-exact", "A.bad-input")
@pytest.mark.parametrize("bad", [2, -2, 3, 127, -128])
def test_a_code_that_is_not_ternary_is_rejected(subject: Subject, codec: str, bad: int, seed: int) -> None:
    require_promise(subject, "codes")
    for width in (1, 7, 20):
        codes = random_codes(3, width, seed)
        codes[2, width - 1] = bad
        rejected(require(subject, Packs).pack, codes, codec)


@exact_packing
@of_published_format
def test_a_byte_that_no_codes_give_is_rejected(subject: Subject, codec: str) -> None:
    """Every byte value, in a row without padding: accepted exactly when some codes pack to it."""
    require_promise(subject, "bytes")
    packs, width = require(subject, Packs), oracle.CODES_PER_BYTE[codec]
    valid = oracle.valid_bytes(codec)
    for byte in range(256):
        packed = torch.tensor([[byte]], dtype=torch.uint8)
        if byte in valid:
            assert packs.pack(packs.unpack(packed, codec, width), codec).tolist() == [[byte]]
        else:
            rejected(packs.unpack, packed, codec, width)


@exact_packing
@of_published_format
def test_padding_that_is_not_zero_is_rejected(subject: Subject, codec: str) -> None:
    """Every byte value as the last, partly used byte of a row: a stray digit in the padding is damage."""
    require_promise(subject, "bytes")
    packs, per_byte = require(subject, Packs), oracle.CODES_PER_BYTE[codec]
    for used in range(1, per_byte):
        for byte in set(range(256)) - oracle.valid_bytes(codec, used):
            row = [*oracle.pack_row([0] * per_byte, codec), byte]
            packed = torch.tensor([row], dtype=torch.uint8)
            rejected(packs.unpack, packed, codec, per_byte + used)


@exact_packing
def test_a_width_that_the_bytes_do_not_hold_is_rejected(subject: Subject, codec: str, seed: int) -> None:
    require_promise(subject, "bytes")
    packs = require(subject, Packs)
    packed = packs.pack(random_codes(3, 20, seed), codec)
    for packed_rows, width in ((packed, 41), (packed, 0), (packed[:, :-1], 20), (packed.flatten(), 20)):
        rejected(packs.unpack, packed_rows, codec, width)


@exact_packing
def test_an_unknown_codec_is_rejected(subject: Subject, codec: str) -> None:
    packs = require(subject, Packs)
    packed = packs.pack(torch.zeros(1, 4, dtype=torch.int8), codec)
    rejected(packs.pack, torch.zeros(1, 4, dtype=torch.int8), f"not-{codec}")
    rejected(packs.unpack, packed, f"not-{codec}", 4)
