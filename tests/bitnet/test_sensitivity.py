import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from bitnet.architectures import layer_plan
from bitnet.sensitivity import (
    PLANE_GAIN,
    Cost,
    assign_planes,
    costs,
    most_sensitive,
    output_gradients,
    predicted_costs,
)
from bitnet.ternarizer import Settings, rounding_errors, ternarize
from tests.bitnet.small_models import VOCABULARY, small_model

TOKENS = torch.randint(2, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(4))
LONGER = torch.randint(2, VOCABULARY, (12, 64), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradients_are_those_of_the_loss_by_the_outputs(architecture):
    """A bias on one output moves the loss by the sum of that output's gradients: checked by central differences."""
    model = small_model(architecture).double()
    names = [decision.name for decision in layer_plan(model) if decision.quantized]
    found = output_gradients(model, names, TOKENS[:1])
    assert set(found) == set(names)
    name = names[-1]
    layer = model.get_submodule(name)

    def loss(position, shift):
        def move(_, __, y):
            y = y.clone()
            y[0, position, 3] += shift
            return y

        handle = layer.register_forward_hook(move)
        try:
            with torch.no_grad():
                return float(cross_entropy(model(TOKENS[:1]).logits[0, :-1], TOKENS[0, 1:], reduction="sum"))
        finally:
            handle.remove()

    slopes = [(loss(position, 1e-4) - loss(position, -1e-4)) / 2e-4 for position in range(20)]
    squares = sum(slope**2 for slope in slopes)
    assert float(found[name][3]) == pytest.approx(squares / 20, rel=1e-4)


def test_nothing_is_left_on_the_model():
    model = small_model("llama")
    model.lm_head.weight.requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    output_gradients(model, ["model.layers.0.mlp.up_proj"], TOKENS)
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.model.layers[0].mlp.up_proj._forward_hooks


def test_costs_count_bits_as_stored_and_fall_with_planes():
    model = small_model("llama")
    names = [decision.name for decision in layer_plan(model) if decision.quantized]
    gradients = output_gradients(model, names, TOKENS)
    settings = [Settings(dict.fromkeys(names, planes), 16, 8, "float16") for planes in (1, 2)]
    found = [costs(ternarize(model, TOKENS, one), gradients, "base3", "float16") for one in settings]
    name = "model.layers.0.mlp.down_proj"  # [32, 44]
    assert found[0][name].bits_per_plane == 32 * (8 * 9 + 3 * 16)
    assert sum(cost.loss for cost in found[1].values()) < sum(cost.loss for cost in found[0].values()) / 3
    assert found[1][name].planes == 2
    assert found[1][name].with_planes(3) == pytest.approx(found[1][name].loss / PLANE_GAIN)


CANDIDATES = {"dear": Cost(1, 1.0, 100), "cheap": Cost(1, 0.1, 100), "large": Cost(1, 1.0, 1000)}


def test_planes_go_where_they_save_most_a_bit_until_the_loss_is_low_enough():
    assert assign_planes(CANDIDATES, 5.0, math.inf) == {"dear": 1, "cheap": 1, "large": 1}
    assert assign_planes(CANDIDATES, 2.0, math.inf) == {"dear": 2, "cheap": 1, "large": 1}
    planes = assign_planes(CANDIDATES, 0.3, math.inf)
    assert planes["large"] == 2
    assert sum(cost.with_planes(planes[name]) for name, cost in CANDIDATES.items()) <= 0.3
    assert assign_planes(CANDIDATES, 0.0, math.inf) == {"dear": 3, "cheap": 3, "large": 3}


def test_the_budget_ends_it():
    assert assign_planes(CANDIDATES, 0.0, 1300) == {"dear": 2, "cheap": 1, "large": 1}
    assert assign_planes(CANDIDATES, 0.0, 1200) == {"dear": 1, "cheap": 1, "large": 1}


def test_layers_are_kept_by_what_they_cost_a_bit_within_a_share():
    assert most_sensitive(CANDIDATES, 5.0, 1.0) == []
    assert most_sensitive(CANDIDATES, 1.5, 1.0) == ["dear"]
    assert most_sensitive(CANDIDATES, 0.0, 0.1) == ["dear"]
    assert most_sensitive(CANDIDATES, 0.0, 1.0) == ["dear", "cheap", "large"]


def test_costs_are_predicted_from_the_model_as_it_is():
    """Up to one factor: what compensation leaves of each layer, and the bits exactly."""
    model = small_model("llama")
    shapes = {d.name: tuple(model.get_submodule(d.name).weight.shape) for d in layer_plan(model) if d.quantized}
    gradients, errors = output_gradients(model, list(shapes), LONGER), rounding_errors(model, LONGER, shapes, 8)
    predicted = predicted_costs(shapes, gradients, errors, 16, "base3", "uint8")
    layers = ternarize(model, LONGER, Settings(dict.fromkeys(shapes, 2), 16, 8, "uint8"))
    measured = costs(layers, gradients, "base3", "uint8")
    factors = [measured[name].loss / predicted[name].loss for name in shapes]
    losses = [measured[name].loss for name in shapes]
    assert max(factors) / min(factors) < 3 < max(losses) / min(losses) / 3
    assert all(predicted[name].bits_per_plane == measured[name].bits_per_plane for name in shapes)


def test_no_layer_gets_fewer_planes_than_the_least():
    assert assign_planes(CANDIDATES, 0.0, 2500, least=2) == {"dear": 3, "cheap": 2, "large": 2}
    assert assign_planes(CANDIDATES, math.inf, 0, least=2) == {"dear": 2, "cheap": 2, "large": 2}
