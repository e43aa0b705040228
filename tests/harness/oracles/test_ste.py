"""Surrogate gradients worked out by hand for a layer of one output, two inputs and one token."""

import pytest
import torch

from harness.oracles import ste as oracle


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


POINT = oracle.LayerPoint(
    weight=tensor([3.0, 0.1]),
    bias=torch.tensor([0.5], dtype=torch.float64),
    x=tensor([1.0, -1.9]),
    quantized_weight=tensor([2.0, 0.0]),
    quantized_x=tensor([1.0, -2.0]),
    weight_scale=tensor([2.0, 2.0]),
)
UPSTREAM = tensor([10.0])


def test_forward_uses_the_quantized_values():
    assert oracle.surrogate_gradients(POINT, UPSTREAM, "identity").output.tolist() == [[2.5]]


def test_identity_lets_every_gradient_through():
    gradients = oracle.surrogate_gradients(POINT, UPSTREAM, "identity")
    assert gradients.weight.tolist() == [[10.0, -20.0]]  # upstream times the quantized input
    assert gradients.bias.tolist() == [10.0]
    assert gradients.x.tolist() == [[20.0, 0.0]]  # upstream times the quantized weight


def test_clipped_stops_the_gradient_of_weights_beyond_their_scale():
    gradients = oracle.surrogate_gradients(POINT, UPSTREAM, "clipped")
    assert gradients.weight.tolist() == [[0.0, -20.0]]
    assert gradients.x.tolist() == [[20.0, 0.0]]
    assert gradients.output.tolist() == [[2.5]]


def test_a_nan_from_above_is_kept():
    gradients = oracle.surrogate_gradients(POINT, tensor([float("nan")]), "identity")
    assert torch.isnan(gradients.weight).all()


def test_the_point_itself_is_left_alone():
    oracle.surrogate_gradients(POINT, UPSTREAM, "identity")
    assert POINT.weight.grad is None
    assert not POINT.weight.requires_grad


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_central_differences_are_exact_for_quadratics(step):
    at = tensor([1.0, -2.0], [3.0, 0.5])
    gradient = oracle.finite_differences(lambda w: (w**2).sum() + 3 * w[0, 1], at, step)
    torch.testing.assert_close(gradient, 2 * at + 3 * tensor([0.0, 1.0], [0.0, 0.0]))
    assert at.tolist() == [[1.0, -2.0], [3.0, 0.5]]
