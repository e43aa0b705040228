import pytest
import torch

from bitnet.architectures import layer_plan
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.layer_store import LayerStore
from bitnet.ternarizer import LARGEST_TOKEN, Settings, second_moments, ternarize
from tests.bitnet.small_models import ARCHITECTURES, VOCABULARY, small_model

TOKENS = torch.randint(2, VOCABULARY, (12, 64), generator=torch.Generator().manual_seed(4))
OTHERS = torch.randint(2, VOCABULARY, (6, 64), generator=torch.Generator().manual_seed(5))


def settings(model, planes=1, group_size=None, bits=8):
    names = [decision.name for decision in layer_plan(model) if decision.quantized]
    return Settings(dict.fromkeys(names, planes), group_size, bits, "float16")


def packed(model, layers, **config):
    resolved = Phase4Config(compensation="sequential", embedding_dtype="float32", **config).resolved(1000)
    return CompressedModel.from_planes(model, resolved, layers)


@torch.no_grad()
def distance(model, other):
    """Relative squared distance of logits on text that was not calibrated on."""
    expected = model(OTHERS).logits
    return float((other(OTHERS).logits - expected).square().sum() / (expected - expected.mean()).square().sum())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_layer_is_made_and_outputs_are_nearer_than_by_the_rule(architecture):
    model = small_model(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = ternarize(model, TOKENS, settings(model))
    assert list(layers) == list(settings(model).planes)
    made = packed(model, layers)
    by_rule = CompressedModel.from_model(model, Phase4Config(embedding_dtype="float32").resolved(1000)).packed()
    assert distance(model, made.model) < 0.9 * distance(model, by_rule.model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_more_planes_are_nearer_and_layers_may_differ():
    model = small_model("llama")
    one, two, three = (ternarize(model, TOKENS, settings(model, planes, 16)) for planes in (1, 2, 3))
    group = {"granularity": "group", "group_size": 16}
    distances = [distance(model, packed(model, layers, **group).model) for layers in (one, two, three)]
    assert distances[0] > 2 * distances[1] > 4 * distances[2]
    mixed = settings(model, 1, 16)
    name = next(iter(mixed.planes))
    chosen = Settings({**mixed.planes, name: 3}, 16, 8, "float16")
    layers = ternarize(model, TOKENS, chosen)
    assert [len(layer.weight.planes) for layer in layers.values()] == [3] + [1] * (len(layers) - 1)
    assert layers[name].relative_error < one[name].relative_error / 4


def test_layers_see_what_the_layers_before_them_have_become():
    """The second block's moments come from a first block that is ternary: other planes there, other codes here."""
    model = small_model("llama")
    plain, finer = settings(model), settings(model)
    first = [name for name in plain.planes if ".layers.0." in name]
    finer = Settings({**plain.planes, **dict.fromkeys(first, 3)}, None, 8, "float16")
    last = [name for name in plain.planes if ".layers.1." in name]
    one, other = ternarize(model, TOKENS, plain), ternarize(model, TOKENS, finer)
    assert any(not torch.equal(one[name].weight.codes, other[name].weight.codes) for name in last)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    model = small_model("llama")
    whole = ternarize(model, TOKENS, settings(model))
    done = []

    def stop(count, total, name, error):
        done.append(name)
        if count == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ternarize(model, TOKENS, settings(model), LayerStore(tmp_path, "run"), stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 9
    again = ternarize(model, TOKENS, settings(model), LayerStore(tmp_path, "run"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path in kept} == kept
    assert len(list(tmp_path.iterdir())) == len(again)
    for name, layer in whole.items():
        assert torch.equal(again[name].weight.codes, layer.weight.codes)
        assert torch.equal(again[name].weight.scale, layer.weight.scale)
        assert again[name].relative_error == layer.relative_error


def test_what_was_kept_is_used_only_where_nothing_before_it_differs(tmp_path):
    model = small_model("llama")
    plain = settings(model)
    ternarize(model, TOKENS, plain, LayerStore(tmp_path, "run"))
    names = list(plain.planes)
    changed = Settings({**plain.planes, names[4]: 2}, None, 8, "float16")
    before = set(tmp_path.iterdir())
    ternarize(model, TOKENS, changed, LayerStore(tmp_path, "run"))
    assert len(set(tmp_path.iterdir()) - before) == len(names) - 4
    ternarize(model, TOKENS, plain, LayerStore(tmp_path, "another"))
    assert len(list(tmp_path.iterdir())) == len(names) + len(names) - 4 + len(names)


def test_a_damaged_file_is_made_again(tmp_path):
    model = small_model("llama")
    whole = ternarize(model, TOKENS, settings(model), LayerStore(tmp_path, "run"))
    for path in tmp_path.iterdir():
        path.write_bytes(b"nonsense")
    again = ternarize(model, TOKENS, settings(model), LayerStore(tmp_path, "run"))
    assert all(torch.equal(again[name].weight.codes, layer.weight.codes) for name, layer in whole.items())


def test_a_token_that_drowns_the_others_is_scaled_down():
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(1, 100, 8, generator=generator)
    x[0, 0] *= 1000
    moments = second_moments(x, None)
    energy = x.square().sum(dim=2)
    assert float(moments.trace()) <= float(energy.clamp_max(LARGEST_TOKEN * energy.median()).mean()) * 1.001
    plain = torch.randn(1, 100, 8, generator=generator)
    torch.testing.assert_close(second_moments(plain, None), plain[0].T @ plain[0] / 100, rtol=0.2, atol=0.2)


@pytest.mark.parametrize("bits", [8, None])
def test_moments_are_of_the_input_as_the_layer_reads_it(bits):
    x = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(7))
    moments, exact = second_moments(x, bits), x.flatten(0, 1).T @ x.flatten(0, 1) / 100
    assert moments.dtype == torch.float32
    torch.testing.assert_close(second_moments(x.bfloat16(), None), exact, rtol=0.05, atol=0.05)
    assert torch.allclose(moments, exact, rtol=1e-6, atol=1e-6) == (bits is None)


def test_a_model_in_training_mode_keeps_it_and_nan_is_named():
    model = small_model("opt").train()
    ternarize(model, TOKENS[:2], settings(model))
    assert model.training
    with torch.no_grad():
        model.get_submodule("model.decoder.layers.1.self_attn_layer_norm").weight.fill_(torch.nan)
    with pytest.raises(BitnetError, match=r"layers\.1\.self_attn\..* cannot be compensated"):
        ternarize(model, TOKENS[:2], settings(model))
