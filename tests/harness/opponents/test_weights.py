import torch

from harness.opponents.products import dense
from harness.opponents.weights import SIZES, AbsmeanWeights, RandomWeights
from suites.small_models import random_llama


def test_random_weights_are_the_same_each_time_and_differ_between_layers():
    one, other = RandomWeights(), RandomWeights()
    first = one.ternary("model.layers.0.mlp.up_proj", (64, 48))
    one.ternary("model.layers.1.mlp.up_proj", (64, 48))
    again = other.ternary("model.layers.0.mlp.up_proj", (64, 48))
    assert torch.equal(first.codes, again.codes)
    assert not torch.equal(first.codes, other.ternary("model.layers.1.mlp.up_proj", (64, 48)).codes)
    assert set(first.codes.unique().tolist()) == {-1, 0, 1}
    assert first.scale == first.scale.half().float()
    assert torch.equal(one.table("lm_head", (5, 3)), other.table("lm_head", (5, 3)))
    assert one.vector("model.norm", 4).tolist() == [1.0] * 4


def test_a_models_weights_follow_the_absmean_rule():
    model = random_llama()
    weights, layer = AbsmeanWeights(model), "model.layers.0.mlp.up_proj"
    original = model.get_submodule(layer).weight.detach()
    given = weights.ternary(layer, tuple(original.shape))
    mean = original.abs().mean()
    assert torch.isclose(given.scale.squeeze(), mean, rtol=1e-3)
    expected = (original / given.scale).round().clamp(-1, 1)
    assert torch.equal(given.codes.float(), expected)
    assert torch.equal(weights.dequantized(layer), dense(given))
    embedding = model.model.embed_tokens.weight
    for found in (weights.dequantized("model.embed_tokens"), weights.table("model.embed_tokens", (0, 0))):
        assert torch.equal(found, embedding)
    assert torch.equal(weights.vector("model.norm", 32), model.model.norm.weight)


def test_synthetic_models_fit_blocks_of_256():
    for config in SIZES.values():
        assert config["hidden_size"] % 256 == 0
        assert config["intermediate_size"] % 256 == 0
