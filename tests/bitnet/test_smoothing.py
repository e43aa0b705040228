import pytest
import torch

from bitnet.quantizer import quantize_activation
from bitnet.smoothing import PASSAGES, feature_sizes, smooth
from tests.bitnet.small_models import VOCABULARY, small_model

TOKENS = torch.randint(2, VOCABULARY, (6, 32), generator=torch.Generator().manual_seed(1))


def uneven(architecture):
    """A model with a feature in front of each kind of matrix that is far larger than the others."""
    model = small_model(architecture)
    with torch.no_grad():
        for block in model.model.layers:
            block.input_layernorm.weight[3] = 60.0
            block.post_attention_layernorm.weight[5] = 40.0
            block.mlp.up_proj.weight[2] *= 50.0
    return model


@torch.no_grad()
def inputs(model, name):
    """What the layer reads, over all tokens."""
    found = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, given: found.append(given[0]))
    model(TOKENS)
    handle.remove()
    return found[0].flatten(0, 1)


def rounding_error(x):
    codes, scale = quantize_activation(x)
    normal = x / x.square().mean(dim=0).sqrt().clamp_min(1e-9)
    rounded = codes * scale / x.square().mean(dim=0).sqrt().clamp_min(1e-9)
    return float((rounded - normal).square().mean())


@pytest.mark.parametrize("architecture", sorted(PASSAGES))
@torch.no_grad()
def test_the_model_computes_what_it_did(architecture):
    model = uneven(architecture)
    before, weights = model(TOKENS).logits, {name: value.clone() for name, value in model.state_dict().items()}
    assert smooth(model, TOKENS, 0.5) == 3 * model.config.num_hidden_layers
    assert not torch.equal(
        model.state_dict()["model.layers.0.mlp.down_proj.weight"], weights["model.layers.0.mlp.down_proj.weight"]
    )
    torch.testing.assert_close(model(TOKENS).logits, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reader", ["self_attn.k_proj", "mlp.up_proj", "mlp.down_proj"])
def test_what_is_rounded_becomes_more_even(reader):
    model, name = uneven("llama"), f"model.layers.1.{reader}"
    before = inputs(model, name)
    smooth(model, TOKENS, 0.5)
    after = inputs(model, name)
    assert rounding_error(after) < 0.2 * rounding_error(before)
    ratio = [float(x.max() / x.median()) for x in (feature_sizes(before), feature_sizes(after))]
    assert ratio[1] == pytest.approx(ratio[0] ** 0.5, rel=0.5)


def test_with_full_strength_all_features_have_one_size():
    model = uneven("llama")
    smooth(model, TOKENS, 1.0)
    after = feature_sizes(inputs(model, "model.layers.0.mlp.gate_proj"))
    before = feature_sizes(inputs(uneven("llama"), "model.layers.0.mlp.gate_proj"))
    assert before.max() > 10 * before.median()
    assert after.max() < 1.1 * after.median()  # not quite 1, as other tokens are the largest now


@pytest.mark.parametrize(("architecture", "strength"), [("gpt2", 0.5), ("llama", 0.0)])
def test_nothing_is_touched_without_strength_or_without_a_known_passage(architecture, strength):
    model = small_model(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert smooth(model, TOKENS, strength) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_features_that_are_always_zero_stay_so():
    model = small_model("llama")
    with torch.no_grad():
        model.model.layers[0].input_layernorm.weight.zero_()
        model.model.layers[1].mlp.up_proj.weight[4] = 0.0
    smooth(model, TOKENS, 0.5)
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    assert not inputs(model, "model.layers.0.self_attn.q_proj").any()


def test_one_huge_token_does_not_count():
    x = torch.ones(50, 4)
    x[0] = torch.tensor([1e4, 1.0, 1.0, 1.0])
    torch.testing.assert_close(feature_sizes(x), torch.ones(4).double())
