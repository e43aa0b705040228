import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitnet.errors import BitnetError
from bitnet.packing import CODECS, bytes_per_row, pack, pack_planes, unpack, unpack_planes

PER_BYTE = {"int8": 1, "2bit": 4, "base3": 5}
examples = settings(derandomize=True, max_examples=100, deadline=None)


def random_codes(rows: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 2, (rows, width), dtype=torch.int8, generator=generator)


def reference_pack(row: list[int], codec: str) -> list[int]:
    """The format as documented, one weight at a time in Python integers."""
    if codec == "int8":
        return [code % 256 for code in row]
    per_byte, base = PER_BYTE[codec], {"2bit": 4, "base3": 3}[codec]
    padded = row + [0] * (-len(row) % per_byte)
    return [
        sum((code + 1) * base**i for i, code in enumerate(padded[start : start + per_byte]))
        for start in range(0, len(padded), per_byte)
    ]


@pytest.mark.parametrize(
    ("codec", "codes", "golden"),
    [
        ("int8", [-1, 0, 1], [255, 0, 1]),
        ("2bit", [-1, -1, -1, -1, 1, 1, 1, 1], [0b00000000, 0b10101010]),
        ("2bit", [1, 0, -1, 1], [0b10000110]),
        ("2bit", [-1], [0b01010100]),
        ("base3", [-1, -1, -1, -1, -1, 1, 1, 1, 1, 1], [0, 242]),
        ("base3", [1, 0, 0, 0, -1], [2 + 3 + 9 + 27]),
        ("base3", [0, 1], [1 + 2 * 3 + 9 + 27 + 81]),
    ],
)
def test_golden_bytes(codec: str, codes: list[int], golden: list[int]) -> None:
    packed = pack(torch.tensor([codes], dtype=torch.int8), codec)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == [golden]


@pytest.mark.parametrize("codec", CODECS)
def test_every_width_is_exact_and_follows_the_format(codec: str) -> None:
    for width in range(1, 41):
        codes = random_codes(7, width, seed=width)
        packed = pack(codes, codec)
        assert packed.shape == (7, bytes_per_row(width, codec))
        assert packed.tolist() == [reference_pack(row, codec) for row in codes.tolist()]
        unpacked = unpack(packed, codec, width)
        assert unpacked.dtype == torch.int8
        assert unpacked.is_contiguous()
        assert torch.equal(unpacked, codes)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shape", [(0, 6), (0, 0), (3, 0), (1, 1), (1, 4096)])
def test_edge_shapes(codec: str, shape: tuple[int, int]) -> None:
    codes = random_codes(*shape)
    packed = pack(codes, codec)
    assert packed.shape == (shape[0], bytes_per_row(shape[1], codec))
    assert torch.equal(unpack(packed, codec, shape[1]), codes)


@pytest.mark.parametrize(("codec", "expected"), [("int8", 11), ("2bit", 3), ("base3", 3)])
def test_bytes_per_row(codec: str, expected: int) -> None:
    assert bytes_per_row(11, codec) == expected


@examples
@given(rows=st.integers(1, 6), width=st.integers(1, 40), seed=st.integers(0, 999), data=st.data())
@pytest.mark.parametrize("codec", CODECS)
def test_rows_are_independent(codec: str, rows: int, width: int, seed: int, data: st.DataObject) -> None:
    codes = random_codes(rows, width, seed)
    changed = codes.clone()
    row = data.draw(st.integers(0, rows - 1))
    changed[row] = random_codes(1, width, seed + 1)[0]
    before, after = pack(codes, codec), pack(changed, codec)
    others = torch.arange(rows) != row
    assert torch.equal(before[others], after[others])
    assert torch.equal(pack(codes[row : row + 1], codec)[0], before[row])


@examples
@given(width=st.integers(1, 12), data=st.data())
@pytest.mark.parametrize("codec", CODECS)
def test_only_canonical_bytes_unpack(codec: str, width: int, data: st.DataObject) -> None:
    """Any bytes at all either are what `pack` writes for the codes that they give, or are refused."""
    row = st.lists(st.integers(0, 255), min_size=bytes_per_row(width, codec), max_size=bytes_per_row(width, codec))
    packed = torch.tensor([data.draw(row)], dtype=torch.uint8)
    try:
        codes = unpack(packed, codec, width)
    except BitnetError:
        every = [reference_pack(list(codes), codec) for codes in _all_codes(width)] if width <= 5 else []
        assert packed[0].tolist() not in every
    else:
        assert torch.equal(pack(codes, codec), packed)


def _all_codes(width: int) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cartesian_prod(*[torch.arange(-1, 2)] * width).reshape(-1, width).tolist()]


@pytest.mark.parametrize("codec", CODECS)
def test_each_byte_is_accepted_exactly_if_codes_pack_to_it(codec: str) -> None:
    width = PER_BYTE[codec]
    written = {int(pack(torch.tensor([codes], dtype=torch.int8), codec)) for codes in _all_codes(width)}
    assert len(written) == 3**width
    for byte in range(256):
        packed = torch.tensor([[byte]], dtype=torch.uint8)
        if byte in written:
            assert int(pack(unpack(packed, codec, width), codec)) == byte
        else:
            with pytest.raises(BitnetError, match="never writes"):
                unpack(packed, codec, width)


@pytest.mark.parametrize("codec", ["2bit", "base3"])
@pytest.mark.parametrize("digit", [0, 2])
def test_padding_must_be_code_zero(codec: str, digit: int) -> None:
    base, per_byte = {"2bit": 4, "base3": 3}[codec], PER_BYTE[codec]
    packed = pack(torch.zeros(2, per_byte + 2, dtype=torch.int8), codec)
    packed[1, 1] += (digit - 1) * base ** (per_byte - 1) % 256
    with pytest.raises(BitnetError, match="not filled up with code 0"):
        unpack(packed, codec, per_byte + 2)


@pytest.mark.parametrize("codec", CODECS)
def test_strided_codes_and_bytes(codec: str) -> None:
    codes = random_codes(22, 14)
    packed = pack(codes.T[::2, 1::2], codec)
    assert torch.equal(packed, pack(codes.T[::2, 1::2].contiguous(), codec))
    strided = torch.stack([packed, packed], dim=2)[:, :, 0]
    assert torch.equal(unpack(strided, codec, 11), codes.T[::2, 1::2])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.tensor([[0, 2]], dtype=torch.int8), "outside -1, 0"),
        (torch.tensor([[0, -2]], dtype=torch.int8), "outside -1, 0"),
        (torch.tensor([[-128, 0]], dtype=torch.int8), "outside -1, 0"),
        (torch.tensor([0, 1], dtype=torch.int8), "int8 matrix"),
        (torch.tensor([[0.5, 1.0]]), "int8 matrix"),
        (torch.tensor([[0, 1]], dtype=torch.int16), "int8 matrix"),
    ],
)
def test_invalid_codes_are_refused(codec: str, codes: Tensor, message: str) -> None:
    with pytest.raises(BitnetError, match=message):
        pack(codes, codec)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "packed",
    [
        torch.zeros(2, 1, dtype=torch.uint8),
        torch.zeros(2, 20, dtype=torch.uint8),
        torch.zeros(8, dtype=torch.uint8),
        torch.zeros(2, 2, dtype=torch.int8),
    ],
)
def test_packed_rows_of_the_wrong_shape_are_refused(codec: str, packed: Tensor) -> None:
    with pytest.raises(BitnetError, match="do not fit 8 weights"):
        unpack(packed, codec, 8)


@pytest.mark.parametrize("codec", CODECS)
def test_results_share_no_memory_with_the_input(codec: str) -> None:
    codes = random_codes(2, 20)
    packed = pack(codes, codec)
    unpack(packed, codec, 20).zero_()
    assert torch.equal(packed, pack(codes, codec))
    packed.zero_()
    assert torch.equal(codes, random_codes(2, 20))


def test_unknown_codecs_and_widths_are_refused() -> None:
    with pytest.raises(BitnetError, match="'3bit' is unknown; choose one of int8, 2bit, base3"):
        pack(random_codes(1, 4), "3bit")
    with pytest.raises(BitnetError, match="'3bit' is unknown"):
        unpack(torch.zeros(1, 1, dtype=torch.uint8), "3bit", 4)
    with pytest.raises(BitnetError, match="row of -1 weights"):
        bytes_per_row(-1, "int8")


@pytest.mark.parametrize("codec", CODECS)
def test_planes_are_packed_one_by_one(codec: str) -> None:
    planes = torch.stack([random_codes(3, 7, seed) for seed in range(2)])
    packed = pack_planes(planes, codec)
    assert torch.equal(packed, torch.stack([pack(plane, codec) for plane in planes]))
    unpacked = unpack_planes(packed, codec, 7)
    assert unpacked.dtype == torch.int8
    assert torch.equal(unpacked, planes)


@pytest.mark.parametrize("codec", CODECS)
def test_planes_of_the_wrong_width_are_refused(codec: str) -> None:
    with pytest.raises(BitnetError, match="do not fit 90 weights"):
        unpack_planes(torch.zeros((2, 3, 2), dtype=torch.uint8), codec, 90)


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_are_where_the_codes_are_whatever_the_default_device(codec: str) -> None:
    codes = random_codes(3, 7)
    expected = pack(codes, codec)
    with torch.device("meta"):
        packed = pack(codes, codec)
    assert torch.equal(packed, expected)
