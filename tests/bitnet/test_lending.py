import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from bitnet.lending import is_lent, kept_for_backward, lend, lend_head, lent, placeholder, without_weights
from tests.bitnet.small_models import ARCHITECTURES, CONFIGS, small_model


def lent_linear(weight):
    layer = nn.Linear(*reversed(weight.shape), bias=False)

    def fill(module):
        module.weight.data = weight.clone()

    lend(layer, fill)
    return layer


def test_a_module_has_its_weight_while_it_runs_and_within_the_block():
    weight = torch.randn(3, 2)
    layer = lent_linear(weight)
    parameter = layer.weight
    assert torch.equal(layer(torch.eye(2)), weight.T)
    assert layer.weight.isnan().all()
    with lent(layer):
        assert torch.equal(layer.weight, weight)
        layer(torch.eye(2))
        assert torch.equal(layer.weight, weight)
    assert layer.weight.isnan().all()
    assert layer.weight is parameter


def test_a_weight_is_taken_back_after_an_error():
    layer = lent_linear(torch.randn(3, 2))
    with pytest.raises(RuntimeError):
        layer(torch.zeros(5))
    assert layer.weight.isnan().all()


def test_modules_that_nothing_lends_to_are_left_alone():
    layer = nn.Linear(2, 2)
    with lent(layer):
        assert layer.weight.isfinite().all()
    assert not is_lent(layer)


def test_a_placeholder_has_the_shape_and_takes_one_number():
    made = placeholder(torch.zeros(1000, 1000, dtype=torch.uint8))
    assert made.shape == (1000, 1000)
    assert made.untyped_storage().nbytes() == 1
    assert int(made[0, 0]) == 255


def test_a_tied_head_is_lent_what_its_embedding_is():
    model = without_weights(lambda: AutoModelForCausalLM.from_config(CONFIGS["llama"]()))
    table = torch.randn(model.lm_head.weight.shape)
    lend(model.model.embed_tokens, lambda module: setattr(module.weight, "data", table.clone()))
    lend_head(model)
    with lent(model.lm_head):
        assert torch.equal(model.lm_head.weight, table)
    assert model.lm_head.weight.isnan().all()
    assert is_lent(model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_weights_a_model_keeps_shapes_ties_and_buffers(architecture):
    config = CONFIGS[architecture]()
    made, whole = without_weights(lambda: AutoModelForCausalLM.from_config(config)), small_model(architecture)
    assert {n: p.shape for n, p in made.named_parameters()} == {n: p.shape for n, p in whole.named_parameters()}
    assert all(parameter.untyped_storage().nbytes() == 4 for parameter in made.parameters())
    assert all(torch.equal(one, other) for one, other in zip(made.buffers(), whole.buffers(), strict=True))
    assert nn.Linear(2, 2).weight.isfinite().all()  # and other modules are made as ever


def test_a_backward_pass_uses_the_weight_of_its_forward_pass():
    weight = torch.randn(3, 2)
    x = torch.ones(1, 2, requires_grad=True)
    with kept_for_backward():
        y = lent_linear(weight)(x).sum()
    y.backward()
    assert torch.allclose(x.grad, weight.sum(dim=0)[None])
