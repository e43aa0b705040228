import math

import pytest
import torch

from bitnet.architectures import layer_plan
from bitnet.gradient_flow import GradientFlow, gradient_flow
from tests.bitnet.small_models import small_model

TOKENS = torch.arange(2, 34).reshape(2, 16)


@pytest.fixture
def model():
    return small_model("llama")


def weights_of(model):
    return {d.name: model.get_submodule(d.name).weight for d in layer_plan(model) if d.quantized}


def problems(flow):
    return {layer.name: layer.problem for layer in flow.failures}


def test_norms_are_those_of_the_language_model_loss(model):
    weights = weights_of(model)
    flow = gradient_flow(model, weights, TOKENS)
    assert flow.fraction == 1.0
    assert flow.failures == ()
    logits = model(input_ids=TOKENS).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), TOKENS[:, 1:].reshape(-1))
    for layer, gradient in zip(flow.layers, torch.autograd.grad(loss, list(weights.values())), strict=True):
        assert layer.norm == pytest.approx(gradient.norm().item(), rel=1e-4)


def test_gradients_and_mode_are_left_as_they_were_found(model):
    model.train()
    gradient_flow(model, weights_of(model), TOKENS)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_detached_layer_is_named(model):
    layer = model.model.layers[0].mlp.up_proj
    layer.register_forward_hook(lambda module, inputs, output: output.detach())
    flow = gradient_flow(model, weights_of(model), TOKENS)
    assert problems(flow) == {"model.layers.0.mlp.up_proj": "no gradient: detached from the loss"}
    assert flow.fraction == pytest.approx(13 / 14)


def test_a_frozen_layer_is_named(model):
    model.model.layers[1].self_attn.q_proj.weight.requires_grad_(False)
    assert list(problems(gradient_flow(model, weights_of(model), TOKENS))) == ["model.layers.1.self_attn.q_proj"]


def test_a_model_frozen_throughout_fails_in_every_layer(model):
    model.requires_grad_(False)
    assert gradient_flow(model, weights_of(model), TOKENS).fraction == 0.0


def test_a_zeroed_layer_and_what_it_starves_are_named(model):
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()
    found = problems(gradient_flow(model, weights_of(model), TOKENS))
    assert found == {
        "model.layers.1.mlp.down_proj": "weight is zero",
        "model.layers.1.mlp.gate_proj": "gradient is zero",
        "model.layers.1.mlp.up_proj": "gradient is zero",
    }


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_layer_that_is_not_finite_is_named_and_the_others_count_as_unmeasured(model, value):
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight[0, 0] = value
    flow = gradient_flow(model, weights_of(model), TOKENS)
    assert flow.fraction == 0.0
    assert problems(flow).pop("model.layers.0.self_attn.v_proj") == "weight is not finite"
    assert set(problems(flow).values()) == {"weight is not finite", "not measured: another weight is not finite"}


def test_a_gradient_that_is_not_finite_is_named(model):
    layer = model.model.layers[1].self_attn.o_proj
    layer.weight.register_hook(lambda gradient: gradient * math.inf)
    found = problems(gradient_flow(model, weights_of(model), TOKENS))
    assert found == {"model.layers.1.self_attn.o_proj": "gradient is not finite"}


def test_no_layers_are_no_success():
    assert GradientFlow(()).fraction == 0.0
