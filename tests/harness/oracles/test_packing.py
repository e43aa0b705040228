import gguf
import numpy as np
import pytest

from harness.oracles import packing as oracle


@pytest.mark.parametrize(
    ("codec", "codes", "packed"),
    [
        ("int8", [-1, 0, 1], [255, 0, 1]),
        ("2bit", [1, 0, -1, 1], [0b10_00_01_10]),
        ("2bit", [-1, 1], [0b01_01_10_00]),
        ("base3", [1, -1, 0, 1, -1], [2 + 0 + 9 + 54 + 0]),
        ("base3", [0, 0, 0, 0, 0, -1], [121, 0 + 3 + 9 + 27 + 81]),
        ("2bit", [], []),
    ],
)
def test_rows_worked_out_by_hand(codec, codes, packed):
    assert oracle.pack_row(codes, codec) == packed
    assert len(packed) == oracle.bytes_per_row(len(codes), codec)


def test_a_matrix_is_packed_row_by_row():
    codes = np.array([[1, 0, -1, 1, 1], [0, 0, 0, 0, 0]], dtype=np.int8)
    packed = oracle.pack(codes, "2bit")
    assert packed.dtype == np.uint8
    assert packed.tolist() == [[0b10_00_01_10, 0b01_01_01_10], [0b01010101, 0b01010101]]


@pytest.mark.parametrize(("codec", "count"), [("int8", 3), ("2bit", 81), ("base3", 243)])
def test_there_are_as_many_valid_bytes_as_ternary_numbers(codec, count):
    valid = oracle.valid_bytes(codec)
    assert len(valid) == count
    assert valid <= set(range(256))


def test_base3_bytes_run_from_0_to_242_and_two_bit_bytes_have_no_digit_3():
    assert oracle.valid_bytes("base3") == set(range(243))
    assert all(byte >> shift & 3 != 3 for byte in oracle.valid_bytes("2bit") for shift in (0, 2, 4, 6))


def test_a_partly_used_byte_has_the_digit_of_zero_in_its_padding():
    assert oracle.valid_bytes("2bit", 1) == {0b01_01_01_00, 0b01_01_01_01, 0b01_01_01_10}
    assert oracle.valid_bytes("base3", 1) == {120, 121, 122}


@pytest.mark.parametrize("codec", oracle.BLOCK_CODECS)
def test_blocks_are_those_that_ggml_reads_and_writes(codec):
    codes = np.random.default_rng(0).integers(-1, 2, (3, 300)).astype(np.int8)
    codes[1] = 0
    packed = oracle.pack(codes, codec)
    padded = np.pad(codes, ((0, 0), (0, -300 % oracle.BLOCK))).astype(np.float32)
    kind = gguf.GGMLQuantizationType[codec.upper()]
    np.testing.assert_array_equal(packed, gguf.quants.quantize(padded, kind))
    np.testing.assert_array_equal(gguf.quants.dequantize(packed, kind), padded)


def test_rows_of_transformers_hold_codes_a_quarter_of_the_row_apart():
    assert oracle.pack_row([-1, 0, 1, 1, 0], "transformers") == [0b00_01_10_00, 0b00_00_10_01]  # R = 2: places 0 2 4
