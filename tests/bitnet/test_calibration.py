import math
from collections import defaultdict

import pytest
import torch

from bitnet.architectures import layer_plan
from bitnet.calibration import calibration_samples, second_moments
from bitnet.errors import BitnetError
from bitnet.quantizer import quantize_weight
from bitnet.text import heldout_text, training_text
from tests.bitnet.small_models import ARCHITECTURES, VOCABULARY, small_model, small_tokenizer
from tests.bitnet.trained_model import trained_model

TEXT = training_text()[:3_000]
TOKENS = torch.randint(2, VOCABULARY, (7, 16), generator=torch.Generator().manual_seed(0))
#: Moments are given in float32: one rounding of a float64 figure.
ROUNDING = 2.0**-23


def quantized_layers(model):
    return [decision.name for decision in layer_plan(model) if decision.quantized]


def observed(model, names, tokens):
    """E[x_j^2] from all inputs that the layers see, kept and averaged in float64."""
    inputs = defaultdict(list)
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: inputs[name].append(args[0].detach().flatten(end_dim=-2).double())
        )
        for name in names
    ]
    with torch.no_grad():
        for row in tokens:
            model(input_ids=row[None])
    for handle in handles:
        handle.remove()
    return {name: torch.cat(rows).pow(2).mean(dim=0) for name, rows in inputs.items()}


# ----------------------------------------------------------------- samples


def test_samples_are_disjoint_windows_of_the_encoded_text():
    samples = calibration_samples(small_tokenizer(), TEXT, 20, 32, seed=0)
    assert samples.shape == (20, 32)
    assert samples.dtype == torch.int64
    encoded = small_tokenizer()(TEXT)["input_ids"]
    windows = [encoded[start : start + 32] for start in range(0, len(encoded) - 31, 32)]
    rest = list(windows)
    for sample in samples.tolist():
        rest.remove(sample)
    assert len(rest) == len(windows) - 20


def test_a_seed_gives_the_same_samples_and_another_seed_others():
    draw = [calibration_samples(small_tokenizer(), TEXT, 10, 16, seed) for seed in (3, 3, 4)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_the_random_state_of_the_caller_plays_no_part():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    calibration_samples(small_tokenizer(), TEXT, 10, 16, 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_samples_come_from_the_whole_text():
    samples = calibration_samples(small_tokenizer(), "a" * 1000 + "b" * 1000, 20, 50, seed=0)
    assert {int(row[0]) for row in samples} == {small_tokenizer()(letter)["input_ids"][0] for letter in "ab"}


def test_a_short_text_gives_all_that_it_holds():
    text = "the cat sat on the mat and the dog sat on the log " * 2
    length = len(small_tokenizer()(text)["input_ids"])
    samples = calibration_samples(small_tokenizer(), text, 1000, 8, seed=0)
    assert samples.shape == (length // 8, 8)


def test_a_text_without_room_for_one_sample_is_an_error():
    length = len(small_tokenizer()("the cat sat")["input_ids"])
    assert calibration_samples(small_tokenizer(), "the cat sat", 5, length, 0).shape == (1, length)
    with pytest.raises(BitnetError, match=f"has {length} tokens, fewer than the {length + 1} of one sample"):
        calibration_samples(small_tokenizer(), "the cat sat", 5, length + 1, 0)


@pytest.mark.parametrize(("samples", "tokens", "name"), [(0, 8, "samples"), (-1, 8, "samples"), (5, 0, "tokens")])
def test_nothing_to_draw_is_an_error(samples, tokens, name):
    with pytest.raises(BitnetError, match=f"The calibration {name} are"):
        calibration_samples(small_tokenizer(), TEXT, samples, tokens, 0)


# ----------------------------------------------------------------- second moments


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_moments_are_those_of_the_inputs_that_the_layers_see(architecture):
    model = small_model(architecture).double()
    names = quantized_layers(model)
    moments = second_moments(model, names, TOKENS, batch_size=3)
    expected = observed(model, names, TOKENS)
    assert list(moments) == names
    for name, moment in moments.items():
        assert moment.dtype == torch.float32
        torch.testing.assert_close(moment.double(), expected[name], rtol=ROUNDING, atol=0)


def test_the_batch_size_changes_nothing_but_float64_rounding():
    model = small_model("llama").double()
    names = quantized_layers(model)
    alone, together = (second_moments(model, names, TOKENS, batch_size) for batch_size in (1, 100))
    for name in names:
        torch.testing.assert_close(alone[name], together[name], rtol=ROUNDING, atol=0)


def test_in_half_precision_the_squares_are_still_summed_in_float64():
    model = small_model("llama").bfloat16()
    names = quantized_layers(model)
    moments = second_moments(model, names, TOKENS, batch_size=1)
    for name, expected in observed(model, names, TOKENS).items():
        torch.testing.assert_close(moments[name].double(), expected, rtol=ROUNDING, atol=0)


def test_under_autocast_the_squares_are_still_summed_in_float64():
    model = small_model("llama")
    names = quantized_layers(model)
    with torch.autocast("cpu", torch.bfloat16):
        moments = second_moments(model, names, TOKENS, batch_size=1)
        expected = observed(model, names, TOKENS)
    for name in names:
        torch.testing.assert_close(moments[name].double(), expected[name], rtol=ROUNDING, atol=0)


def test_the_model_is_left_as_it_was_and_its_head_does_not_run():
    model = small_model("llama").train()
    model.lm_head.register_forward_hook(lambda *_: pytest.fail("the head ran"))
    name = quantized_layers(model)[0]
    modes = []
    model.model.layers[0].register_forward_hook(lambda module, *_: modes.append(module.training))
    moments = second_moments(model, [name], TOKENS, batch_size=4)
    assert modes == [False, False]
    assert model.training
    assert model.model.layers[0].training
    assert not model.get_submodule(name)._forward_pre_hooks
    assert not moments[name].requires_grad


def test_progress_counts_samples():
    calls = []
    second_moments(small_model("gpt2"), ["transformer.h.0.mlp.c_fc"], TOKENS, 3, lambda *call: calls.append(call))
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_an_input_that_is_not_finite_is_told_with_the_first_layer_that_sees_it():
    model = small_model("llama").train()
    names = quantized_layers(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = math.nan
    with pytest.raises(BitnetError, match=r"layer 'model\.layers\.1\.mlp\.down_proj' is NaN or infinite"):
        second_moments(model, names, TOKENS, batch_size=2)
    assert model.training
    assert not any(model.get_submodule(name)._forward_pre_hooks for name in names)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("model.layers.7.mlp.up_proj", r"no layer 'model\.layers\.7\.mlp\.up_proj'"),
        ("lm_head", "'lm_head' takes no part in the decoder"),
    ],
)
def test_a_name_that_is_no_layer_of_the_decoder_is_an_error(name, sentence):
    model = small_model("llama")
    known = quantized_layers(model)[0]
    with pytest.raises(BitnetError, match=sentence):
        second_moments(model, [known, name], TOKENS, batch_size=2)
    assert not model.get_submodule(known)._forward_pre_hooks


def test_no_sample_is_an_error():
    with pytest.raises(BitnetError, match="no sample to calibrate with"):
        second_moments(small_model("llama"), [], TOKENS[:0], batch_size=2)


# ----------------------------------------------------------------- what it is for


@pytest.mark.parametrize("granularity", ["channel", "group"])
def test_calibration_lowers_the_output_error_of_a_trained_models_layers(granularity):
    """Moments from the training text, error on text that neither training nor calibration saw."""
    model, tokenizer = trained_model()
    names = quantized_layers(model)
    moments = second_moments(model, names, calibration_samples(tokenizer, TEXT, 40, 32, 0), batch_size=8)
    unseen = calibration_samples(tokenizer, heldout_text()[:4_000], 40, 32, 0)
    inputs = {}
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: inputs.__setitem__(name, args[0].flatten(0, 1).double())
        )
    with torch.no_grad():
        model(input_ids=unseen)

    def output_error(name, moment):
        weight = model.get_submodule(name).weight.detach()
        ternary = quantize_weight(weight, "optimal", granularity, group_size=16, tau=0.05, second_moment=moment)
        difference = inputs[name] @ (weight.double() - ternary.dequantize().double()).T
        output = inputs[name] @ weight.double().T
        return float(difference.square().sum() / output.square().sum())

    plain = [output_error(name, None) for name in names]
    calibrated = [output_error(name, moments[name]) for name in names]
    assert sum(calibrated) < sum(plain)
    assert sum(with_ < without for with_, without in zip(calibrated, plain, strict=True)) > len(names) / 2
