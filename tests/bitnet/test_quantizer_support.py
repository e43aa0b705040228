"""Which weights the optimal rule keeps: each group by itself, to the ends of its band, in any unit of the moments."""

import pytest
import torch
from torch import Tensor

from bitnet.quantizer import quantize_weight


def flat(*shape: int) -> Tensor:
    """Magnitudes so alike that every zero costs, in no order."""
    return 3 + torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("width", "zeros"), [(39, 2), (40, 2), (41, 3), (19, 1), (21, 2)])
def test_the_fewest_zeros_are_a_twentieth_of_the_weights_rounded_up(width: int, zeros: int) -> None:
    codes = quantize_weight(flat(4, width), tau=0.0).codes
    assert (codes == 0).sum(dim=1).tolist() == [zeros] * 4


@pytest.mark.parametrize(("width", "zeros"), [(39, 17), (40, 18), (41, 18), (19, 8), (21, 9)])
def test_the_most_zeros_are_nine_twentieths_rounded_down(width: int, zeros: int) -> None:
    codes = quantize_weight(flat(4, width) ** 40, tau=0.0).codes  # a few weights outweigh all others
    assert (codes == 0).sum(dim=1).tolist() == [zeros] * 4


def test_the_unit_of_the_moments_does_not_matter() -> None:
    weight, moment = flat(3, 20), 1 + torch.arange(20.0)
    expected = quantize_weight(weight, second_moment=moment)
    for unit in (2.0**-20, 2.0**20):
        found = quantize_weight(weight, second_moment=moment * unit)
        assert torch.equal(found.codes, expected.codes)
        assert torch.equal(found.scale, expected.scale)


def test_moments_of_half_precision_are_added_up_in_full() -> None:
    weight, moment = flat(3, 500), flat(500).bfloat16()
    expected = quantize_weight(weight, second_moment=moment.double())
    found = quantize_weight(weight, second_moment=moment)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scale, expected.scale)


def test_a_row_without_support_has_none_beside_rows_that_have() -> None:
    ternary = quantize_weight(torch.tensor([[2.0, -2, 2, 2], [4.0, 1, -1, 3]]), tau=1.0)
    assert ternary.codes.tolist() == [[0, 0, 0, 0], [1, 0, 0, 1]]
    assert ternary.scale.flatten().tolist() == [0.0, 3.5]


def test_a_group_that_calibration_never_saw_is_quantized_as_without_calibration_beside_groups_that_it_saw() -> None:
    weight, moment = flat(2, 40), torch.cat([torch.zeros(20), torch.ones(20)])
    expected = quantize_weight(weight, granularity="group", group_size=20)
    found = quantize_weight(weight, granularity="group", group_size=20, second_moment=moment)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scale, expected.scale)
