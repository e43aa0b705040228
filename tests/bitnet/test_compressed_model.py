import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bitnet.bitlinear import BitLinear, TernaryLinear
from bitnet.compressed_model import CompressedModel, latent_weight, layer_plan, replace_modules
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.quantizer import quantize_weight
from tests.bitnet.small_models import ARCHITECTURES, small_model

TOKENS = torch.arange(2, 34).reshape(2, 16)


def config(**settings):
    return Phase4Config(**settings).resolved(1000)


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exactly_the_planned_layers_are_replaced_and_the_original_is_untouched(architecture):
    model = small_model(architecture)
    before = copy.deepcopy(model.state_dict())
    compressed = CompressedModel.from_model(model, config())
    planned = [d.name for d in layer_plan(model) if d.quantized]
    assert list(compressed.layers) == planned
    assert {n for n, m in compressed.model.named_modules() if isinstance(m, BitLinear)} == set(planned)
    assert all(compressed.model.get_submodule(name) is layer for name, layer in compressed.layers.items())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in compressed.model.parameters()}
    assert not shared


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_quantization_off_the_model_is_the_original(architecture):
    model = small_model(architecture)
    compressed = CompressedModel.from_model(model, config())
    for layer in compressed.layers.values():
        layer.quantize = False
    assert torch.allclose(logits(compressed.model), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_codes_and_scales_are_those_of_the_rule_on_the_out_by_in_weight(architecture):
    model = small_model(architecture)
    compressed = CompressedModel.from_model(model, config(rule="absmean"))
    for name, layer in compressed.layers.items():
        module = model.get_submodule(name)
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        expected = quantize_weight(weight.detach(), "absmean", tau=0.05)
        (plane,) = layer.ternary().planes
        assert torch.equal(plane.codes, expected.codes)
        assert torch.equal(plane.scale, expected.scale.half().float())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_trainable_and_packed_form_agree_to_the_last_bit(architecture):
    compressed = CompressedModel.from_model(small_model(architecture), config(embedding_dtype="float32"))
    packed = compressed.packed()
    assert all(isinstance(layer, TernaryLinear) for layer in packed.layers.values())
    assert torch.equal(logits(compressed.model), logits(packed.model))
    compressed.model.train()
    assert not packed.model.training
    assert not any(p.requires_grad for p in packed.model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_plain_model_has_plain_layers_and_holds_half_of_scale_times_codes(architecture):
    model = small_model(architecture)
    packed = CompressedModel.from_model(model, config()).packed()
    plain = packed.dequantized()
    for name, layer in packed.layers.items():
        module = plain.get_submodule(name)
        assert type(module) is type(model.get_submodule(name))
        ternary = layer.ternary()
        expected = ternary.dequantize().half()
        assert torch.equal(expected.float(), ternary.dequantize())
        stored = module.weight.T if isinstance(module, Conv1D) else module.weight
        assert torch.equal(stored, expected)
        assert (module.bias is None) == (layer.bias is None)
    assert {p.dtype for p in plain.parameters()} == {torch.float16}
    assert plain.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_and_plain_model_agree_with_float_activations_in_float32(architecture):
    packed = CompressedModel.from_model(small_model(architecture), config(embedding_dtype="int8")).packed()
    plain = packed.dequantized(torch.float32)
    with packed.activations(None):
        assert torch.allclose(logits(packed.model), logits(plain), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(packed.model), logits(plain), rtol=1e-4, atol=1e-4)


def test_rotary_frequencies_keep_their_precision_in_the_half_precision_model():
    plain = CompressedModel.from_model(small_model("llama"), config()).dequantized()
    assert plain.model.rotary_emb.inv_freq.dtype == torch.float32
    assert plain.config.dtype == torch.float16


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_a_tied_head_stays_tied_in_every_form(architecture):
    compressed = CompressedModel.from_model(small_model(architecture), config())
    for model in (compressed.model, compressed.packed().model, compressed.dequantized()):
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_tables_are_rounded_as_stored_and_only_there(dtype):
    model = small_model("qwen2")
    compressed = CompressedModel.from_model(model, config(embedding_dtype=dtype))
    packed = compressed.packed().model
    for name in ("model.embed_tokens", "lm_head"):
        assert not torch.equal(packed.get_submodule(name).weight, model.get_submodule(name).weight)
        assert torch.equal(compressed.model.get_submodule(name).weight, model.get_submodule(name).weight)
    assert torch.equal(packed.model.norm.weight, model.model.norm.weight)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_several_planes_go_through_every_form(granularity):
    settings = {"planes": 2, "granularity": granularity, "group_size": 16, "embedding_dtype": "float32"}
    compressed = CompressedModel.from_model(small_model("gpt2"), config(**settings))
    packed = compressed.packed()
    again = packed.latent()
    assert torch.equal(logits(compressed.model), logits(packed.model))
    assert torch.equal(logits(again.model), logits(packed.model))
    assert all(layer.scale.requires_grad for layer in again.layers.values())
    plain = packed.dequantized()
    for name, layer in packed.layers.items():
        assert torch.equal(plain.get_submodule(name).weight.T.float(), layer.ternary().dequantize())


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("rule", ["threshold", "absmean", "optimal"])
def test_latent_weights_quantize_back_to_what_they_stand_for(rule, granularity):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(9, 70, generator=generator) * torch.logspace(-4, 3, 9).unsqueeze(1)
    weight[4] = 0.0
    ternary = quantize_weight(weight, rule, granularity, group_size=32, tau=0.2)
    again = quantize_weight(latent_weight(ternary, rule), rule, granularity, group_size=32, tau=0.2)
    assert torch.equal(again.codes, ternary.codes)
    if rule == "optimal":
        assert torch.equal(again.scale, ternary.scale)
    assert torch.allclose(again.scale, ternary.scale, rtol=2e-7, atol=0)


def test_the_trainable_form_of_a_packed_model_gives_its_logits():
    packed = CompressedModel.from_model(small_model("gpt2"), config(granularity="group", group_size=16)).packed()
    latent = packed.latent()
    assert all(isinstance(layer, BitLinear) for layer in latent.layers.values())
    assert torch.equal(logits(latent.model), logits(packed.model))


def test_second_moments_change_the_codes():
    model = small_model("llama")
    plain = CompressedModel.from_model(model, config())
    moments = {name: torch.linspace(0.01, 10, layer.in_features) for name, layer in plain.layers.items()}
    weighted = CompressedModel.from_model(model, config(), moments)
    assert weighted.zero_fraction != plain.zero_fraction


def test_zero_fraction_counts_codes_over_all_layers():
    compressed = CompressedModel.from_model(small_model("llama"), config())
    codes = torch.cat([layer.ternary().codes.flatten() for layer in compressed.layers.values()])
    assert compressed.zero_fraction == pytest.approx((codes == 0).double().mean().item())


def test_activations_come_back_after_an_error():
    compressed = CompressedModel.from_model(small_model("llama"), config())

    def fail_within():
        with compressed.activations(None):
            assert {layer.activation_bits for layer in compressed.layers.values()} == {None}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_within()
    assert {layer.activation_bits for layer in compressed.layers.values()} == {8}


def test_replacing_modules_copies_everything_else():
    model = small_model("llama")
    new = nn.Identity()
    other = replace_modules(model, {"model.layers.0.mlp": new})
    assert other.model.layers[0].mlp is new
    assert other.model.norm is not model.model.norm
    assert other.config is not model.config


def test_a_scale_beyond_float16_is_named():
    model = small_model("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(1e8)
    with pytest.raises(BitnetError, match=r"a scale reaches .* beyond float16"):
        CompressedModel.from_model(model, config()).packed()
    compressed = CompressedModel.from_model(model, config(scale_dtype="float32"))
    with pytest.raises(BitnetError, match=r"'model\.layers\.0\.mlp\.up_proj\.weight' reaches .* beyond float16"):
        compressed.dequantized()
