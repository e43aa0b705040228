import pytest
import torch

from bitnet.errors import BitnetError
from bitnet.tables import decode_table, encode_table, table_codes, table_layout, to_float16


@pytest.fixture
def table():
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(300, 24, generator=generator)
    # Row magnitudes from far below float16's range to far above it.
    return rows * torch.logspace(-12, 6, 300).unsqueeze(1)


@pytest.mark.parametrize("dtype", ["float32", "int8", "int6"])
def test_encoding_a_decoded_table_changes_no_bit(table, dtype):
    stored = encode_table("t", table, dtype)
    again = encode_table("t", decode_table(stored, 24), dtype)
    assert stored.keys() == again.keys()
    assert all(torch.equal(stored[key], again[key]) for key in stored)


def test_float16_encoding_is_a_projection():
    table = torch.linspace(-3, 3, 40).reshape(8, 5)
    decoded = decode_table(encode_table("t", table, "float16"), 5)
    assert torch.equal(decoded, table.half().float())
    assert torch.equal(decode_table(encode_table("t", decoded, "float16"), 5), decoded)


def test_float32_is_stored_as_it_is(table):
    assert torch.equal(decode_table(encode_table("t", table, "float32"), 24), table)


def test_int8_error_is_at_most_half_a_step_and_the_rounding_of_the_scale(table):
    stored = encode_table("t", table, "int8")
    assert stored["codes"].dtype == torch.int8
    assert stored["scale"].dtype == torch.bfloat16
    step = stored["scale"].float()
    # absmax / scale is 127 within bfloat16's half unit (127 / 256), so clamping costs no more than rounding does.
    assert bool(((decode_table(stored, 24) - table).abs() <= 0.51 * step).all())


def test_int6_error_is_at_most_half_a_step_and_the_rounding_of_the_scale(table):
    stored = encode_table("t", table, "int6")
    assert stored["codes"].dtype == torch.uint8
    assert stored["codes"].shape == (300, 18)
    assert bool(((decode_table(stored, 24) - table).abs() <= 0.57 * stored["scale"].float()).all())  # 31 / 256 more


def test_four_codes_of_six_bits_share_three_bytes():
    """By the sum of (c + 32) 64^i that the format promises, worked out apart."""
    codes = torch.tensor([[31, -31, 0, 5, -7, 1]])
    stored = encode_table("t", codes * 0.5, "int6")
    first = sum((c + 32) * 64**i for i, c in enumerate((31, -31, 0, 5)))
    second = sum((c + 32) * 64**i for i, c in enumerate((-7, 1, 0, 0)))
    assert bytes(stored["codes"][0].tolist()) == first.to_bytes(3, "little") + second.to_bytes(3, "little")
    assert torch.equal(table_codes(stored["codes"], 6), codes.to(torch.int8))


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int6"])
def test_tables_of_any_width_are_stored_as_the_layout_says(dtype, columns):
    table = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    stored = encode_table("t", table, dtype)
    assert {part: (tensor.dtype, tuple(tensor.shape)) for part, tensor in stored.items()} == table_layout(
        dtype, (3, columns)
    )
    assert decode_table(stored, columns).shape == (3, columns)


@pytest.mark.parametrize("dtype", ["int8", "int6"])
def test_zero_rows_stay_zero(dtype):
    decoded = decode_table(encode_table("t", torch.zeros(2, 3), dtype), 3)
    assert torch.equal(decoded, torch.zeros(2, 3))


def test_a_value_beyond_float16_is_named():
    with pytest.raises(BitnetError, match=r"'wte.weight' reaches 7e\+04, beyond float16"):
        encode_table("wte", torch.tensor([[70000.0]]), "float16")


def test_values_that_are_already_infinite_are_left_to_the_finiteness_gate():
    assert torch.isinf(to_float16("x", torch.tensor([float("inf")]))).all()
