"""Straight-through training: the forward pass is the quantized layer, the gradient is that of the declared surrogate.

The quantizers' values are judged in `test_quantization` and `test_activations`; here the subject's own quantized
values enter a float64 autograd of the surrogate (`harness.oracles.ste`), and the layer must agree with it within
the rounding of a float32 sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.evidence import Evidence
from harness.oracles import quantization as weight_oracle
from harness.oracles import ste as oracle
from harness.subject import (
    InfersLinear,
    QuantizesActivations,
    QuantizesWeights,
    Subject,
    TrainsLinear,
    WeightVariant,
    require,
)
from suites.strategies import gaussian_matrix
from suites.weights import multiplier, quantize

gradient_criteria = pytest.mark.criterion("1.1.ste-gradients", "1.2.ste-gradient-flow")
layer_criteria = pytest.mark.criterion("1.1.ste-gradients", "2.ste")

TOKENS, INPUTS, OUTPUTS = 7, 45, 12


@dataclass(frozen=True)
class Problem:
    """A training layer of the subject, what it was made from, an input and an upstream gradient."""

    layer: nn.Module
    weight: Tensor
    bias: Tensor
    x: Tensor
    upstream: Tensor


def problem(subject: Subject, variant: WeightVariant, seed: int) -> Problem:
    weight, bias = gaussian_matrix(OUTPUTS, INPUTS, seed), gaussian_matrix(1, OUTPUTS, seed + 1)[0]
    layer = training_layer(subject, weight, bias, variant)
    return Problem(
        layer, weight, bias, gaussian_matrix(TOKENS, INPUTS, seed + 2), gaussian_matrix(TOKENS, OUTPUTS, seed + 3)
    )


def training_layer(
    subject: Subject, weight: Tensor, bias: Tensor | None, variant: WeightVariant, *, use_quantizer: bool = True
) -> nn.Module:
    """A layer of the subject on copies of the parameters, so that training it changes nothing else."""
    copied_bias = None if bias is None else bias.clone()
    return require(subject, TrainsLinear).training_linear(weight.clone(), copied_bias, variant, quantize=use_quantizer)


def latent(layer: nn.Module) -> nn.Parameter:
    weight = layer.weight
    assert isinstance(weight, nn.Parameter), "the training layer's latent weight is not a parameter"
    return weight


def gradient(parameter: object) -> Tensor:
    assert isinstance(parameter, Tensor)
    assert parameter.grad is not None, "no gradient arrived"
    return parameter.grad


def quantized_input(subject: Subject, x: Tensor) -> Tensor:
    """Q(x) by the subject's own operation; x itself where it keeps activations in floating point."""
    if subject.declaration.activation_range is None:
        return x.double()
    codes, scale = require(subject, QuantizesActivations).quantize_activation(x)
    return codes.double() * scale.double()


def layer_point(subject: Subject, variant: WeightVariant, given: Problem) -> oracle.LayerPoint:
    quantized = quantize(subject, given.weight, variant)
    scale = weight_oracle.spread(multiplier(subject, quantized), (OUTPUTS, INPUTS), variant)
    return oracle.LayerPoint(
        weight=given.weight.double(),
        bias=given.bias.double(),
        x=given.x.double(),
        quantized_weight=require(subject, QuantizesWeights).dequantize(quantized, variant).double(),
        quantized_x=quantized_input(subject, given.x),
        weight_scale=torch.from_numpy(np.abs(scale)),
    )


def input_size(point: oracle.LayerPoint) -> Tensor:
    """|x| + |Q(x)|: what rounding errors of the input are relative to, also where Q(x) is made as x + (Q(x) - x)."""
    return point.x.abs() + point.quantized_x.abs()


def weight_size(point: oracle.LayerPoint) -> Tensor:
    """|W| + |Q(W)|, likewise."""
    return point.weight.abs() + point.quantized_weight.abs()


def assert_sums_agree(actual: Tensor, expected: Tensor, magnitudes: Tensor, terms: int, what: str) -> float:
    """Equal within the rounding of a float32 sum of ``terms`` products whose magnitudes add up to ``magnitudes``."""
    assert torch.isfinite(actual).all(), f"{what} is not finite"
    error = (actual.detach().double() - expected).abs() / (magnitudes + torch.finfo(torch.float32).tiny)
    bound = (terms + 4) * torch.finfo(torch.float32).eps
    assert error.max() <= bound, (
        f"{what} is off by {float(error.max()):.2e} of its terms, rounding explains {bound:.2e}"
    )
    return float(error.max())


# --------------------------------------------------------------------------- forward


@layer_criteria
def test_forward_is_the_quantized_layer(subject: Subject, variant: WeightVariant, seed: int) -> None:
    given = problem(subject, variant, seed)
    point = layer_point(subject, variant, given)
    expected = point.quantized_x @ point.quantized_weight.T + point.bias
    magnitudes = input_size(point) @ weight_size(point).T + point.bias.abs()
    assert_sums_agree(given.layer(given.x), expected, magnitudes, INPUTS, "the output")


@layer_criteria
def test_training_evaluation_and_inference_agree(subject: Subject, variant: WeightVariant, seed: int) -> None:
    """One layer in both modes bit by bit, and the layer that runs on stored codes within float32 rounding."""
    given = problem(subject, variant, seed)
    training = given.layer.train()(given.x)
    evaluation = given.layer.eval()(given.x)
    assert torch.equal(training, evaluation)
    inference = require(subject, InfersLinear).inference_linear(given.weight, given.bias, variant)
    point = layer_point(subject, variant, given)
    magnitudes = input_size(point) @ weight_size(point).T + point.bias.abs()
    with torch.no_grad():
        assert_sums_agree(inference(given.x), evaluation.double(), magnitudes, 2 * INPUTS, "the inference output")


@layer_criteria
def test_leading_dimensions_are_only_a_batch(subject: Subject, variant: WeightVariant, seed: int) -> None:
    given = problem(subject, variant, seed)
    x = gaussian_matrix(6, INPUTS, seed)
    flat = given.layer(x)
    torch.testing.assert_close(given.layer(x.reshape(2, 3, INPUTS)), flat.reshape(2, 3, OUTPUTS))
    torch.testing.assert_close(given.layer(x[0]), flat[0])


@layer_criteria
def test_a_layer_without_bias_has_none(subject: Subject, variant: WeightVariant, seed: int) -> None:
    given = problem(subject, variant, seed)
    bare = training_layer(subject, given.weight, None, variant)
    assert getattr(bare, "bias", None) is None
    torch.testing.assert_close(bare(given.x) + given.bias, given.layer(given.x))


# --------------------------------------------------------------------------- gradients


@gradient_criteria
@pytest.mark.criterion("A.as-declared")
def test_gradients_are_those_of_the_declared_surrogate(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """Weight, bias and input, against autograd of the identity or the clipped surrogate."""
    given = problem(subject, variant, seed)
    point = layer_point(subject, variant, given)
    x = given.x.clone().requires_grad_()
    given.layer(x).backward(given.upstream)
    expected = oracle.surrogate_gradients(point, given.upstream.double(), subject.declaration.ste)
    size = given.upstream.double().abs()
    errors = [
        assert_sums_agree(gradient(given.layer.weight), expected.weight, size.T @ input_size(point), TOKENS, "dL/dW"),
        assert_sums_agree(gradient(given.layer.bias), expected.bias, size.sum(0), TOKENS, "dL/db"),
        assert_sums_agree(gradient(x), expected.x, size @ weight_size(point), OUTPUTS, "dL/dx"),
    ]
    evidence.figure("surrogate_gradient_error", max(errors))


@gradient_criteria
def test_gradients_reach_weights_that_are_quantized_to_zero(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """Otherwise a weight once zeroed could never come back."""
    given = problem(subject, variant, seed)
    zeroed = quantize(subject, given.weight, variant).codes == 0
    assert zeroed.any(), "this check needs zeroed weights, and the rule zeroes none of 540 Gaussian ones"
    given.layer(given.x).backward(given.upstream)
    reached = (gradient(given.layer.weight)[zeroed] != 0).double().mean()
    evidence.figure("zeroed_weights_with_gradient", reached)
    assert reached == 1.0


@gradient_criteria
def test_without_quantization_gradients_are_finite_differences(
    subject: Subject, variant: WeightVariant, seed: int
) -> None:
    """The plain linear map in float64: output by definition, gradients of weight and input by central differences."""
    weight, bias = gaussian_matrix(3, 5, seed), gaussian_matrix(1, 3, seed + 1)[0]
    x, upstream = gaussian_matrix(2, 5, seed + 2).double(), gaussian_matrix(2, 3, seed + 3).double()
    layer = training_layer(subject, weight, bias, variant, use_quantizer=False).double()
    leaf = x.clone().requires_grad_()
    output = layer(leaf)
    torch.testing.assert_close(output.detach(), x @ weight.double().T + bias.double(), rtol=1e-12, atol=1e-12)
    output.backward(upstream)

    def loss_at_weight(value: Tensor) -> Tensor:
        moved = training_layer(subject, weight, bias, variant, use_quantizer=False).double()
        with torch.no_grad():
            latent(moved).copy_(value)
            return torch.sum(moved(x) * upstream)

    def loss_at_input(value: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.sum(layer(value) * upstream)

    by_weight = oracle.finite_differences(loss_at_weight, weight.double(), step=0.5)
    by_input = oracle.finite_differences(loss_at_input, x, step=0.5)
    torch.testing.assert_close(gradient(layer.weight), by_weight, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient(leaf), by_input, rtol=1e-9, atol=1e-9)


@gradient_criteria
def test_gradients_accumulate(subject: Subject, variant: WeightVariant, seed: int) -> None:
    given = problem(subject, variant, seed)
    given.layer(given.x).backward(given.upstream)
    once = gradient(given.layer.weight).clone()
    given.layer(given.x).backward(given.upstream)
    torch.testing.assert_close(gradient(given.layer.weight), 2 * once)


# --------------------------------------------------------------------------- latent weights and steps


@layer_criteria
def test_the_latent_weight_is_the_full_precision_weight(subject: Subject, variant: WeightVariant, seed: int) -> None:
    """The optimizer sees the weight itself, not its quantized value, and neither forward nor backward changes it."""
    given = problem(subject, variant, seed)
    assert torch.equal(latent(given.layer).detach(), given.weight)
    given.layer(given.x).backward(given.upstream)
    assert torch.equal(latent(given.layer).detach(), given.weight)
    assert latent(given.layer).requires_grad


@layer_criteria
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW], ids=["sgd", "adamw"])
def test_a_step_changes_the_latent_weight_by_exactly_the_update(
    subject: Subject, variant: WeightVariant, optimizer: type[torch.optim.Optimizer], seed: int
) -> None:
    """Bit by bit what the same optimizer does to a plain parameter with the same gradient."""
    given = problem(subject, variant, seed)
    plain = nn.Parameter(given.weight.clone())
    optimizers = [optimizer([latent(given.layer)], lr=0.01), optimizer([plain], lr=0.01)]  # type: ignore[call-arg]
    for _ in range(2):
        given.layer.zero_grad()
        given.layer(given.x).backward(given.upstream)
        plain.grad = gradient(given.layer.weight).clone()
        for each in optimizers:
            each.step()
    assert not torch.equal(plain.detach(), given.weight)
    assert torch.equal(latent(given.layer).detach(), plain.detach())


@layer_criteria
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_next_forward_uses_the_new_weight(
    subject: Subject, variant: WeightVariant, training: bool, seed: int
) -> None:
    """After an optimizer step, and after the weight is overwritten in place, nothing stale is left."""
    given = problem(subject, variant, seed)
    layer = given.layer.train(training)
    before = layer(given.x)
    before.backward(given.upstream)
    torch.optim.SGD([latent(layer)], lr=0.2).step()
    stepped = training_layer(subject, latent(layer).detach(), given.bias, variant).train(training)
    assert not torch.equal(layer(given.x), before)
    assert torch.equal(layer(given.x), stepped(given.x))
    other = gaussian_matrix(OUTPUTS, INPUTS, seed + 9)
    with torch.no_grad():
        latent(layer).copy_(other)
    assert torch.equal(layer(given.x), training_layer(subject, other, given.bias, variant).train(training)(given.x))


# --------------------------------------------------------------------------- NaN


@layer_criteria
@pytest.mark.parametrize("place", ["input", "weight", "bias"])
def test_nan_does_not_vanish_in_the_forward_pass(
    subject: Subject, variant: WeightVariant, place: str, seed: int
) -> None:
    """A NaN in the input, the latent weight or the bias reaches the output, or is rejected with a ValueError."""
    given = problem(subject, variant, seed)
    x = given.x.clone()
    spoilt = {"input": x, "weight": latent(given.layer), "bias": given.layer.bias}[place]
    assert isinstance(spoilt, Tensor)
    with torch.no_grad():
        spoilt.view(-1)[3] = float("nan")
    try:
        output = given.layer(x)
    except ValueError:
        return
    assert torch.isnan(output).any()


@gradient_criteria
def test_nan_does_not_vanish_in_the_backward_pass(subject: Subject, variant: WeightVariant, seed: int) -> None:
    """A NaN from above reaches every gradient that the declared surrogate lets it through to."""
    given = problem(subject, variant, seed)
    x = given.x.clone().requires_grad_()
    upstream = given.upstream.clone()
    upstream[2, 5] = float("nan")
    expected = oracle.surrogate_gradients(
        layer_point(subject, variant, given), upstream.double(), subject.declaration.ste
    )
    given.layer(x).backward(upstream)
    for actual, wanted in (
        (given.layer.weight, expected.weight),
        (given.layer.bias, expected.bias),
        (x, expected.x),
    ):
        assert torch.isnan(wanted).any()
        assert torch.isnan(gradient(actual)[torch.isnan(wanted)]).all()
