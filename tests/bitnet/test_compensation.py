import pytest
import torch

from bitnet.compensation import Statistics, compensate
from bitnet.errors import BitnetError
from bitnet.ternary import TernarySum


def inputs(width=48, tokens=4000, seed=0):
    """Correlated features of very different size."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) * torch.randn(width, generator=generator).exp()
    return torch.randn(tokens, width, generator=generator) @ mixing


X = inputs()
WEIGHT = torch.randn(20, 48, generator=torch.Generator().manual_seed(1))


def output_error(x, weight, rounded):
    return float((x @ (weight - rounded).T).square().sum() / (x @ weight.T).square().sum())


def made(planes=1, group_size=None, moments=None, **options):
    moments = X.T @ X / len(X) if moments is None else moments
    found = compensate(WEIGHT, Statistics.of(moments, group_size, 0.01), planes, **options)
    return found, TernarySum(found.codes, found.scale, group_size)


@pytest.mark.parametrize("group_size", [None, 16, 20])
@pytest.mark.parametrize("planes", [1, 2, 3])
def test_the_output_error_is_far_below_that_of_rounding_alone(planes, group_size):
    found, ternary = made(planes, group_size)
    groups = 1 if group_size is None else -(-48 // group_size)
    assert found.codes.shape == (planes, 20, 48)
    assert found.scale.shape == (planes, 20, groups)
    assert (found.scale >= 0).all()
    error = output_error(X, WEIGHT, ternary.dequantize())
    assert found.relative_error == pytest.approx(error, rel=1e-3)
    _, by_itself = made(planes, group_size, moments=torch.eye(48))
    assert error < 0.4 * output_error(X, WEIGHT, by_itself.dequantize())


def test_the_errors_are_those_of_each_output():
    found, ternary = made(2, 16)
    each = (X @ (WEIGHT - ternary.dequantize()).T).square().mean(dim=0)
    torch.testing.assert_close(found.output_error, each, rtol=1e-3, atol=1e-5)


def test_turns_of_coordinate_descent_and_a_good_order_help():
    errors = [made(2, 16, sweeps=sweeps)[0].relative_error for sweeps in (0, 1, 3)]
    assert errors[0] > errors[1] > errors[2]


def test_columns_may_stay_in_their_order():
    statistics = Statistics.of(X.T @ X, 16, 0.01, reorder=False)
    assert statistics.order.tolist() == list(range(48))
    assert [number for number, _ in statistics.groups] == [0, 1, 2]


def test_columns_are_taken_by_descending_second_moment_group_by_group():
    moments = X.T @ X / len(X)
    statistics = Statistics.of(moments, 16, 0.01)
    for number, part in statistics.groups:
        columns = statistics.order[part]
        assert set(columns.tolist()) == set(range(number * 16, number * 16 + 16))
        diagonal = moments.diagonal()[columns]
        assert (diagonal[:-1] >= diagonal[1:]).all()


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_scales_are_rounded_as_they_are_stored(dtype):
    stored, full = made(2, 16, scale_dtype=dtype)[1], made(2, 16, scale_dtype="float32")[1]
    assert torch.equal(stored.rounded(dtype).scale, stored.scale)
    assert not torch.equal(full.rounded(dtype).scale, full.scale)


def test_the_same_input_gives_the_same_bits():
    first, second = made(2, 16)[0], made(2, 16)[0]
    assert torch.equal(first.codes, second.codes)
    assert torch.equal(first.scale, second.scale)


def test_features_that_were_never_seen_do_no_harm():
    silent = X.clone()
    silent[:, :5] = 0.0
    found, ternary = made(1, None, moments=silent.T @ silent / len(X))
    assert torch.isfinite(found.scale).all()
    assert output_error(silent, WEIGHT, ternary.dequantize()) < 0.2
    nothing, ternary = made(1, None, moments=torch.zeros(48, 48))
    assert torch.isfinite(ternary.dequantize()).all()
    assert nothing.relative_error == 0.0


def test_a_row_of_zeros_stays_zero():
    found = compensate(torch.zeros(3, 48), Statistics.of(X.T @ X, 16, 0.01), 2)
    assert not TernarySum(found.codes, found.scale, 16).dequantize().any()


def test_moments_that_are_not_finite_are_refused():
    with pytest.raises(BitnetError, match="NaN or infinite"):
        Statistics.of(torch.full((4, 4), torch.nan), None, 0.01)
