"""Several planes of a weight, their straight-through estimator, and what a quantizer takes from its surroundings."""

import itertools

import pytest
import torch
from torch import Tensor

from bitnet.grid import nearest_codes
from bitnet.quantizer import (
    TernaryWeight,
    activation_ste,
    grid_ste,
    quantize_activation,
    quantize_planes,
    quantize_weight,
    weight_ste,
)
from bitnet.ternary import TernarySum

GRANULARITIES = ["tensor", "channel", "group"]
OPTIONS = [
    ("absmean", "group", 5, 0.05, None),
    ("threshold", "tensor", 128, 0.3, None),
    ("optimal", "channel", 128, 0.2, torch.arange(1.0, 12.0)),
]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options[0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_plane_is_of_what_the_ones_before_it_left(options: tuple[object, ...], dtype: torch.dtype) -> None:
    weight = rest = gaussian(3, 11).to(dtype)
    found = quantize_planes(weight, 3, *options)
    assert len(found.planes) == 3
    assert found.group_size == (5 if options[1] == "group" else None)
    for plane in found.planes:
        expected = quantize_weight(rest, *options)
        assert torch.equal(plane.codes, expected.codes)
        assert torch.equal(plane.scale, expected.scale)
        rest = rest - expected.dequantize(dtype)
    assert rest.float().norm() < (weight.float() - found.planes[0].dequantize()).norm() < weight.float().norm()


def test_scales_are_rounded_as_they_are_stored() -> None:
    weight = gaussian(3, 11)
    exact, half = quantize_planes(weight, 2), quantize_planes(weight, 2, scale_dtype="float16")
    assert torch.equal(half.codes, exact.codes)
    assert torch.equal(half.scale, exact.rounded("float16").scale)
    assert not torch.equal(half.scale, exact.scale)


def test_what_is_not_said_is_the_optimal_rule_by_channel_in_groups_of_128_above_a_twentieth() -> None:
    weight = gaussian(2, 300) ** 3
    for quantize in (quantize_weight, lambda weight, **options: quantize_planes(weight, 1, **options).planes[0]):
        said = quantize(weight, rule="optimal", granularity="channel", tau=0.05)
        unsaid = quantize(weight)
        assert torch.equal(unsaid.codes, said.codes)
        assert torch.equal(unsaid.scale, said.scale)
        assert quantize(weight, granularity="group").scale.shape == (2, 3)
        assert quantize(weight, granularity="group").group_size == 128


@pytest.mark.parametrize("group_size", [None, 4])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_a_grid_passes_gradients_to_the_weight_and_to_every_scale(group_size: int | None, rows: int, dtype) -> None:
    weight = gaussian(3, 10).requires_grad_()
    groups = 1 if group_size is None else 3
    scale = gaussian(2, rows, groups, seed=2).abs().requires_grad_()
    rounded = scale.detach().half().float()
    stored = TernarySum(nearest_codes(weight, rounded, group_size), rounded, group_size)
    value = grid_ste(weight, scale, rounded, group_size, dtype)
    assert value.dtype == (dtype or torch.float32)
    assert torch.equal(value, stored.dequantize(value.dtype))
    gradient = gaussian(3, 10, seed=3)
    value.backward(gradient.to(value.dtype))
    assert weight.grad is not None
    assert scale.grad is not None
    assert torch.equal(weight.grad, gradient)
    parts = [slice(0, 10)] if group_size is None else [slice(0, 4), slice(4, 8), slice(8, 10)]
    for plane, (group, columns) in itertools.product(range(2), enumerate(parts)):
        expected = (stored.codes[plane, :, columns] * gradient[:, columns]).sum(dim=1)
        torch.testing.assert_close(
            scale.grad[plane, :, group], expected if rows == 3 else expected.sum(0, keepdim=True)
        )


def test_a_plane_without_a_scale_gets_no_gradient() -> None:
    scale = torch.tensor([[[0.3]], [[0.0]]]).requires_grad_()
    weight = gaussian(4, 20).requires_grad_()
    grid_ste(weight, scale, scale.detach(), None).square().sum().backward()
    assert scale.grad is not None
    assert scale.grad[0] != 0
    assert scale.grad[1] == 0


def test_scales_that_are_not_trained_cost_nothing() -> None:
    weight, scale = gaussian(4, 20).requires_grad_(), torch.full((2, 4, 1), 0.3)
    value = grid_ste(weight, scale, scale, None)
    value.sum().backward()
    assert torch.equal(weight.grad, torch.ones(4, 20))


def test_a_grid_of_half_precision_keeps_the_dtype_of_its_weight() -> None:
    weight = gaussian(2, 4).bfloat16().requires_grad_()
    ternary = quantize_planes(weight.detach(), 2)
    value = grid_ste(weight, ternary.scale.clone().requires_grad_(), ternary.scale, ternary.group_size)
    assert value.dtype == torch.bfloat16
    assert weight_ste(weight, ternary).dtype == torch.bfloat16
    value.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("rule", ["threshold", "absmean", "optimal"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_codes_are_where_the_weight_is_whatever_the_defaults_are(rule: str, granularity: str) -> None:
    weight, moment = gaussian(3, 11), torch.arange(11.0)
    expected = quantize_weight(weight, rule, granularity, 4, second_moment=moment)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = quantize_weight(weight, rule, granularity, 4, second_moment=moment)
            codes, scale = quantize_activation(weight)
    finally:
        torch.set_default_dtype(torch.float32)
    assert isinstance(found, TernaryWeight)
    assert torch.equal(found.codes, expected.codes)
    assert found.scale.dtype == torch.float32
    assert torch.equal(found.scale, expected.scale)
    assert (codes.device.type, scale.device.type) == ("cpu", "cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_activation_keeps_its_dtype_and_so_does_its_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, -0.5, 0.25]], dtype=dtype, requires_grad=True)
    found = activation_ste(x)
    assert found.dtype == dtype
    codes, scale = quantize_activation(x)
    assert torch.equal(found.detach(), (codes * scale).to(dtype))
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
