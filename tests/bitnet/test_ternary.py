import itertools
import math

import pytest
import torch

from bitnet.errors import BitnetError
from bitnet.ternary import TernarySum, TernaryWeight, equal_groups, share_exponent


def planes(count, rows=6, width=20, group_size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    groups = -(-width // group_size) if group_size else 1
    return [
        TernaryWeight(
            torch.randint(-1, 2, (rows, width), dtype=torch.int8, generator=generator),
            torch.rand(rows, groups, generator=generator),
            group_size,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("group_size", [None, 8])
def test_a_sum_is_the_sum_of_its_planes(group_size):
    parts = planes(3, group_size=group_size)
    whole = TernarySum.of(*parts)
    expected = sum(plane.dequantize(torch.float64) for plane in parts)
    torch.testing.assert_close(whole.dequantize(), expected.float(), rtol=1e-6, atol=1e-7)
    assert whole.dequantize(torch.float16).dtype == torch.float16
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(whole.planes, parts, strict=True))
    zeros = sum(int((plane.codes == 0).sum()) for plane in parts)
    assert whole.zero_fraction == pytest.approx(zeros / (3 * 6 * 20))


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
    with pytest.raises(BitnetError, match="beyond float16"):
        TernarySum.of(TernaryWeight(torch.ones(1, 1, dtype=torch.int8), torch.tensor([[math.inf]]))).rounded("float16")


def test_groups_are_whole_ones_and_a_tail():
    assert [(p.start, p.stop, g.stop - g.start) for p, g in equal_groups(20, 8)] == [(0, 16, 2), (16, 20, 1)]
    assert [(p.start, p.stop, g.stop - g.start) for p, g in equal_groups(16, 8)] == [(0, 16, 2)]
