import itertools

import pytest
import torch

from bitnet.errors import BitnetError
from bitnet.scales import SCALE_BITS, decode_scales, encode_scales, round_scales, share_exponent

STORED = ("float16", "uint8")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shared_scales_make_every_sum_a_float16_number(count):
    generator = torch.Generator().manual_seed(3)
    scales = torch.rand(count, 4000, generator=generator) * torch.logspace(-8, 4, 4000)
    stored = share_exponent(scales)
    assert torch.equal(stored.half().float(), stored)
    for signs in itertools.product((-1, 0, 1), repeat=count):
        total = (torch.tensor(signs).unsqueeze(1) * stored.double()).sum(dim=0)
        assert torch.equal(total.half().double(), total)
    step = (scales.sum(dim=0) * 2.0**-9).clamp_min(2.0**-24)
    assert ((stored - scales).abs() <= step).all()
    assert (stored > 0).all()


def test_one_scale_is_rounded_to_the_nearest_float16_and_zero_stays():
    scales = torch.tensor([[0.0, 1.0 / 3.0, 1e-3, 60000.0, 1e-9]])
    stored = share_exponent(scales)
    assert torch.equal(stored[:, :4], scales[:, :4].half().float())
    assert float(stored[0, 4]) == 2.0**-24
    assert torch.equal(share_exponent(stored), stored)


def test_a_scale_beyond_float16_is_refused():
    with pytest.raises(BitnetError, match="scale_dtype=float32"):
        share_exponent(torch.tensor([[40000.0], [30000.0]]))


def scales(count=3, rows=50, groups=7):
    generator = torch.Generator().manual_seed(4)
    size = torch.logspace(-4, 2, rows)[:, None]
    return torch.rand(count, rows, groups, generator=generator) * size


@pytest.mark.parametrize("dtype", SCALE_BITS)
def test_rounded_scales_come_back_from_the_file_as_they_were(dtype):
    rounded = round_scales(scales(), dtype)
    stored = encode_scales("layer", rounded, dtype)

    def take(name, dtype, shape):
        tensor = stored.pop(name)
        assert (tensor.dtype, tuple(tensor.shape)) == (dtype, shape)
        return tensor

    assert 8 * stored["layer.scale"].itemsize == SCALE_BITS[dtype]
    assert torch.equal(decode_scales(take, "layer", dtype, (3, 50, 7)), rounded)
    assert stored == {}
    assert torch.equal(round_scales(rounded, dtype), rounded)


@pytest.mark.parametrize("dtype", STORED)
def test_sums_of_rounded_scales_are_float16_numbers(dtype):
    rounded = round_scales(scales(), dtype).double()
    for signs in itertools.product((-1, 0, 1), repeat=3):
        total = (torch.tensor(signs)[:, None, None] * rounded).sum(dim=0)
        assert torch.equal(total.half().double(), total)


def test_bytes_keep_a_scale_to_a_127th_of_the_largest_of_its_row():
    given = scales()
    given[:, 3] = 0.0
    given[0, 4, 0], given[1, 4, 0] = 1e-12, -1.0
    rounded = round_scales(given, "uint8")
    assert not rounded[:, 3].any()
    assert rounded[0, 4, 0] > 0  # not zero: at least one step
    assert rounded[1, 4, 0] == 0  # a byte has no sign
    rows = [row for row in range(50) if row not in (3, 4)]
    error = (rounded - given)[:, rows].abs().amax(dim=(0, 2))
    assert (error <= given[:, rows].amax(dim=(0, 2)) / 127).all()  # at least one step, at most two 255ths


@pytest.mark.parametrize("dtype", STORED)
def test_scales_beyond_float16_are_refused(dtype):
    with pytest.raises(BitnetError, match="scale_dtype=float32"):
        round_scales(torch.full((2, 1, 1), 40000.0), dtype)
