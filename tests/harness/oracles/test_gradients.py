import math

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from harness.oracles.architecture import block_projections
from harness.oracles.gradients import relative_difference, surrogate_gradients
from suites.small_architectures import small_model

TOKENS = torch.arange(24).reshape(2, 12)


@pytest.fixture(params=["llama", "gpt2"])
def model(request):
    return small_model(request.param, tied=False).requires_grad_(False)


def exactly(x):
    return x


def coarse(x):
    return (x * 4).round() / 4


def test_without_quantization_they_are_the_models_own(model):
    layers = block_projections(model)
    found = surrogate_gradients(model, layers, exactly, TOKENS)
    model.requires_grad_(True)
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    for name, layer in layers.items():
        own = layer.weight.grad.T if isinstance(layer, Conv1D) else layer.weight.grad
        torch.testing.assert_close(found[name], own)


def test_the_last_layer_sees_the_quantized_input(model):
    """d loss / d W = upstream^T Q(x): with all inputs quantized to zero there is nothing left of it."""
    layers = block_projections(model)
    found = surrogate_gradients(model, layers, lambda x: x * 0, TOKENS)
    assert all(not gradient.any() for gradient in found.values())
    rough = surrogate_gradients(model, layers, coarse, TOKENS)
    exact = surrogate_gradients(model, layers, exactly, TOKENS)
    assert all(relative_difference(rough[name], exact[name]) > 1e-3 for name in layers)


def test_gradients_come_through_the_quantizers_of_later_layers():
    """Rounding has derivative 0 almost everywhere: without the surrogate nothing would reach the gate."""
    model = small_model("llama", tied=False)
    first = "model.layers.1.mlp.gate_proj"
    layers = {name: layer for name, layer in block_projections(model).items() if name == first or "down" in name}
    assert surrogate_gradients(model, layers, coarse, TOKENS)[first].any()


def test_the_model_is_left_as_it_was(model):
    before = model(input_ids=TOKENS).logits
    surrogate_gradients(model, block_projections(model), coarse, TOKENS)
    assert torch.equal(model(input_ids=TOKENS).logits, before)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())


def test_shapes_are_out_by_in():
    model = small_model("gpt2", tied=True)
    found = surrogate_gradients(model, block_projections(model), exactly, TOKENS)
    assert found["transformer.h.0.attn.c_attn"].shape == (96, 32)


def test_relative_difference():
    assert relative_difference(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])) == 0.0
    assert relative_difference(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)
    assert math.isnan(relative_difference(torch.tensor([math.nan, 0.0]), torch.tensor([1.0, 0.0])))
