import itertools

import pytest
import torch

from bitnet.grid import fit_scales, grid, least_squares, nearest_codes, nearest_values, within_cells
from bitnet.ternary import TernarySum, equal_groups


def brute_force(weight, scales):
    """Distance of each weight to the nearest of all sums."""
    choices = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=len(scales))))
    values = (choices @ scales).T  # [rows, values]
    return (weight.unsqueeze(2) - values.unsqueeze(1)).abs().amin(dim=2)


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_the_nearest_value_is_nearer_than_every_other(planes):
    generator = torch.Generator().manual_seed(planes)
    weight, scales = torch.randn(7, 40, generator=generator), torch.rand(planes, 7, generator=generator)
    found = grid(scales)
    index = found.nearest(weight)
    value = found.values.gather(1, index)
    torch.testing.assert_close((weight - value).abs(), brute_force(weight, scales))
    codes = found.codes(index, planes)
    torch.testing.assert_close((codes.float() * scales.unsqueeze(2)).sum(dim=0), value)


@pytest.mark.parametrize("group_size", [None, 16])
def test_nearest_codes_follow_the_groups(group_size):
    generator = torch.Generator().manual_seed(5)
    weight, groups = torch.randn(5, 40, generator=generator), 1 if group_size is None else 3
    scale = torch.rand(2, 5, groups, generator=generator)
    scale[1, 2] = 0.0
    codes = nearest_codes(weight, scale, group_size)
    for group in range(groups):
        part = slice(group * 16, (group + 1) * 16) if group_size else slice(None)
        value = (codes[:, :, part].float() * scale[:, :, group, None]).sum(dim=0)
        distance = brute_force(weight[:, part], scale[:, :, group])
        torch.testing.assert_close((weight[:, part] - value).abs(), distance)
    assert not codes[1, 2].any()


@pytest.mark.parametrize("planes", [1, 2, 3])
@pytest.mark.parametrize("group_size", [None, 16, 7])
@pytest.mark.parametrize("rows", [1, 5])
def test_nearest_values_are_those_of_the_nearest_codes(planes, group_size, rows):
    generator = torch.Generator().manual_seed(planes)
    weight = torch.randn(5, 40, generator=generator)
    scale = torch.rand(planes, rows, -(-40 // (group_size or 40)), generator=generator)
    scale[-1, 0] = 0.0
    found, codes = nearest_values(weight, scale, group_size), nearest_codes(weight, scale, group_size)
    assert torch.equal(found.values, TernarySum(codes, scale, group_size).dequantize())
    for (part, _), choices in zip(equal_groups(40, group_size or 40), found.choices, strict=True):
        number = found.position[:, part].reshape(choices.shape[1], -1).long()
        chosen = choices.gather(2, number.expand(planes, -1, -1))
        assert torch.equal(chosen.reshape(planes, 5, -1), codes[:, :, part])


def test_nearest_codes_with_one_row_of_scales_for_all():
    codes = nearest_codes(torch.tensor([[0.9, -0.2], [0.4, -3.0]]), torch.tensor([[[1.0]]]), None)
    assert codes.tolist() == [[[1, 0], [0, -1]]]


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_fitted_scales_find_a_grid_that_the_weights_are_on(planes):
    generator = torch.Generator().manual_seed(planes)
    truth = torch.tensor([1.0, 0.55, 0.3])[:planes].unsqueeze(1) * torch.tensor([0.01, 3.0])
    codes = torch.randint(-1, 2, (planes, 2, 400), generator=generator).float()
    weight = (codes * truth.unsqueeze(2)).sum(dim=0)
    found = grid(fit_scales(weight, torch.ones(1, 400), planes))
    error = (weight - found.values.gather(1, found.nearest(weight))).square().sum() / weight.square().sum()
    assert error < 1e-3


def test_more_planes_leave_less_error_and_importance_is_heeded():
    generator = torch.Generator().manual_seed(9)
    weight = torch.randn(20, 300, generator=generator)
    importance = torch.rand(1, 300, generator=generator) ** 4 + 1e-3

    def error(planes, by):
        found = grid(fit_scales(weight, by, planes))
        left = (weight - found.values.gather(1, found.nearest(weight))).square()
        return float((left * importance).sum() / (weight.square() * importance).sum())

    errors = [error(planes, importance) for planes in (1, 2, 3)]
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4
    assert errors[1] < error(2, torch.ones(1, 300))


def test_least_squares_solves_its_equations_and_keeps_what_they_leave_open():
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(-1, 2, (2, 3, 50), generator=generator).float()
    codes[1, 2] = 0.0
    truth = torch.tensor([[0.5, 1.0, 2.0], [0.2, 0.3, 0.7]])
    weight = (codes * truth.unsqueeze(2)).sum(dim=0)
    solved = least_squares(codes, weight, codes, truth)
    torch.testing.assert_close(solved, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("group_size", [None, 16])
def test_a_weight_is_moved_no_further_than_its_codes_ask_for(planes, group_size):
    generator = torch.Generator().manual_seed(6)
    weight = torch.randn(5, 40, generator=generator)
    scale = torch.rand(planes, 5, 1 if group_size is None else 3, generator=generator)
    scale[:, 2] = 0.0
    own = TernarySum(nearest_codes(weight, scale, group_size), scale, group_size)
    other = TernarySum(nearest_codes(weight.flip(1), scale, group_size), scale, group_size)
    for ternary in (own, other):
        moved = within_cells(weight, ternary, 0.1)
        codes = nearest_codes(moved, scale, group_size)
        torch.testing.assert_close(TernarySum(codes, scale, group_size).dequantize(), ternary.dequantize())
        away = (moved - ternary.dequantize()).abs() + (weight - moved).abs()
        torch.testing.assert_close(away, (weight - ternary.dequantize()).abs())  # it lies between the two
    least = (within_cells(weight, own, 0.0) - weight).abs()
    assert float(least[scale[0, :, 0] > 0].max()) < 1e-6
