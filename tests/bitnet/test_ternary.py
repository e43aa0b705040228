import math

import pytest
import torch

from bitnet.errors import BitnetError
from bitnet.ternary import TernarySum, TernaryWeight, equal_groups


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


def test_a_sum_beyond_float16_is_refused_there():
    with pytest.raises(BitnetError, match="beyond float16"):
        TernarySum.of(TernaryWeight(torch.ones(1, 1, dtype=torch.int8), torch.tensor([[math.inf]]))).rounded("float16")


def test_groups_are_whole_ones_and_a_tail():
    assert [(p.start, p.stop, g.stop - g.start) for p, g in equal_groups(20, 8)] == [(0, 16, 2), (16, 20, 1)]
    assert [(p.start, p.stop, g.stop - g.start) for p, g in equal_groups(16, 8)] == [(0, 16, 2)]
