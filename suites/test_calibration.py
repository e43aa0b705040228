"""Calibration: second moments of the inputs change the codes, and the weighted error falls for it.

First what a weight rule makes of given moments, then the moments that a subject measures on a model itself, and last
what both together do to the outputs of real layers on text that they have not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float64
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from harness.evidence import Evidence
from harness.oracles import moments as moment_oracle
from harness.oracles import quantization as oracle
from harness.subject import (
    Calibrates,
    CompressesModels,
    NotApplicable,
    QuantizesWeights,
    Subject,
    WeightVariant,
    require,
)
from harness.texts import PROSE, held_out_text
from suites.fixtures_models import ReferenceModel
from suites.small_models import byte_tokenizer, random_llama
from suites.strategies import WeightRecipe, gaussian_matrix, weight_recipes
from suites.variants import of_calibrated_rules
from suites.weights import CONTINUOUS, assert_search_is_exact, exact, multiplier, quantize, rejected, resolution


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
def test_calibration_lowers_the_weighted_error(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """With skewed second moments the codes change, stay exact under the new objective, and the weighted error falls."""
    weight = gaussian_matrix(16, 2 * (variant.group_size or 64) + 5, seed)
    h = gaussian_matrix(1, weight.shape[1], seed + 1)[0].mul(2).exp()
    plain, calibrated = (quantize(subject, weight, variant, moments) for moments in (None, h))
    assert not torch.equal(plain.codes, calibrated.codes)
    assert_search_is_exact(weight, calibrated, variant, h)
    errors = []
    for quantized in (plain, calibrated):
        restored = exact(require(subject, QuantizesWeights).dequantize(quantized, variant))
        errors.append(oracle.weighted_error(exact(weight), restored, variant, exact(h)).sum())
    evidence.figure("weighted_error_ratio", errors[1] / errors[0])
    assert errors[1] < errors[0]


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
def test_calibrated_scale_is_the_weighted_least_squares_scale(
    subject: Subject, variant: WeightVariant, seed: int
) -> None:
    weight = gaussian_matrix(8, 2 * (variant.group_size or 64) + 5, seed)
    h = gaussian_matrix(1, weight.shape[1], seed + 1)[0].mul(2).exp()
    quantized = quantize(subject, weight, variant, h)
    expected = oracle.least_squares_scale(exact(weight), quantized.codes.numpy(), variant, exact(h))
    tolerance = resolution(weight, quantized, variant)
    np.testing.assert_allclose(multiplier(subject, quantized), expected, rtol=tolerance, atol=0)


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
@given(recipe=weight_recipes(kinds=CONTINUOUS), exponent=st.integers(-20, 20))
def test_equal_second_moments_are_no_calibration(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe, exponent: int
) -> None:
    weight = recipe.build(variant)
    plain = quantize(subject, weight, variant)
    uniform = quantize(subject, weight, variant, torch.full((weight.shape[1],), 2.0**exponent))
    assert torch.equal(uniform.codes, plain.codes)
    assert torch.equal(uniform.scale, plain.scale)


@pytest.mark.criterion("2.calibration")
@of_calibrated_rules
def test_features_that_are_never_active_do_no_harm(subject: Subject, variant: WeightVariant, seed: int) -> None:
    """A second moment of 0 for some features, or for all of them, still gives finite scales and ternary codes."""
    weight = gaussian_matrix(4, 2 * (variant.group_size or 64) + 5, seed)
    partly = (torch.arange(weight.shape[1]) % 3 > 0).float()
    for moments in (partly, torch.zeros_like(partly)):
        quantized = quantize(subject, weight, variant, moments)
        assert torch.isfinite(quantized.scale).all()
        assert set(quantized.codes.flatten().tolist()) <= {-1, 0, 1}


@pytest.mark.criterion("2.calibration", "A.bad-input")
@of_calibrated_rules
@pytest.mark.parametrize("fault", ["nan", "negative", "too-short"])
def test_impossible_second_moments_are_rejected(
    subject: Subject, variant: WeightVariant, fault: str, seed: int
) -> None:
    weight = gaussian_matrix(3, 19, seed)
    moments = torch.ones(18 if fault == "too-short" else 19)
    moments[4] = {"nan": float("nan"), "negative": -1.0, "too-short": 1.0}[fault]
    rejected(quantize, subject, weight, variant, moments)


# --------------------------------------------------------------------------- the subject's own second moments

TOKENS = 16
ROUNDING = 1e-5  # of float32 forward passes that are batched differently; sums in half precision are off by 1e-3

measures_moments = pytest.mark.criterion("2.calibration")


@dataclass(frozen=True)
class SmallModel:
    """A small random language model, its tokenizer of one token a byte, and the layers that would be quantized."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    layers: tuple[str, ...]


@pytest.fixture
def small_model(subject: Subject, seed: int) -> SmallModel:
    """Made anew for each check; its layers are those of the subject's plan, or all inside the blocks without one."""
    model = random_llama(seed)
    planned = subject.layer_plan(model) if isinstance(subject, CompressesModels) else block_layers(model)
    return SmallModel(model, byte_tokenizer(), tuple(name for name, quantized, _ in planned if quantized))


def block_layers(model: nn.Module) -> Sequence[tuple[str, bool, str]]:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [(name, ".layers." in name, "a linear layer") for name in linear]


def second_moments(subject: Subject, small: SmallModel, text: str, samples: int, seed: int) -> Mapping[str, Tensor]:
    return require(subject, Calibrates).second_moments(small.model, small.tokenizer, text, samples, TOKENS, seed)


def by_window(small: SmallModel, text: str) -> dict[str, Float64[np.ndarray, "windows in"]]:
    """The moments of every window of the text, of which any sampling can only take some."""
    windows = moment_oracle.windows_of(small.tokenizer.encode(text), TOKENS)
    return moment_oracle.input_moments(small.model, small.layers, windows)


@measures_moments
@pytest.mark.parametrize("samples", [1, 5])
def test_second_moments_of_one_window_are_the_mean_squares_of_its_inputs(
    subject: Subject, small_model: SmallModel, samples: int, seed: int, evidence: Evidence
) -> None:
    """A text of exactly one window leaves no choice of samples: every layer and feature against hooks and float64."""
    text = PROSE[:TOKENS]
    measured = second_moments(subject, small_model, text, samples, seed)
    assert set(measured) == set(small_model.layers)
    errors = []
    for name, expected in by_window(small_model, text).items():
        assert measured[name].shape == expected[0].shape
        errors.append(np.max(np.abs(exact(measured[name]) - expected[0]) / expected[0]))
    evidence.figure("second_moment_relative_error", max(errors))
    assert max(errors) <= ROUNDING


@measures_moments
def test_second_moments_are_the_mean_over_windows_of_the_text(
    subject: Subject, small_model: SmallModel, seed: int, evidence: Evidence
) -> None:
    """Eight samples of a text of eight: some mean of its windows, the same windows for all layers and features."""
    text, samples = PROSE[: 8 * TOKENS], 8
    measured = {
        name: exact(moments) for name, moments in second_moments(subject, small_model, text, samples, seed).items()
    }
    found = moment_oracle.mixture(by_window(small_model, text), measured)
    evidence.figure("second_moment_mixture_error", found.error)
    assert found.error <= ROUNDING
    assert found.weights.sum() == pytest.approx(1, abs=ROUNDING)
    assert found.windows >= samples / 4, f"{samples} samples were asked for, and {found.windows:.1f} windows count"


@measures_moments
def test_the_seed_decides_which_samples_are_drawn(subject: Subject, small_model: SmallModel, seed: int) -> None:
    """Bit by bit the same moments for the same seed, others for another one, on a text of many windows."""
    first, again, other = (second_moments(subject, small_model, held_out_text(), 4, s) for s in (seed, seed, seed + 1))
    assert first
    for name in first:
        assert torch.equal(first[name], again[name]), name
        assert not torch.equal(first[name], other[name]), name


@measures_moments
def test_calibration_leaves_the_model_as_it_was(subject: Subject, small_model: SmallModel, seed: int) -> None:
    """No hook stays behind, no weight changes, and a model in training stays in training."""
    model = small_model.model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    second_moments(subject, small_model, PROSE, 2, seed)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.criterion("2.calibration", "A.bad-input")
@pytest.mark.parametrize("length", [0, TOKENS - 1])
def test_a_text_too_short_for_one_sample_is_rejected(
    subject: Subject, small_model: SmallModel, length: int, seed: int
) -> None:
    """Padding it would calibrate on the padding."""
    rejected(second_moments, subject, small_model, PROSE[:length], 1, seed)


@pytest.mark.criterion("2.calibration", "A.bad-input")
def test_activations_that_are_not_finite_do_not_pass_as_numbers(
    subject: Subject, small_model: SmallModel, seed: int
) -> None:
    """Rejected, or not finite in the moments of the layers that see them: NaN in every token reaches all of them."""
    with torch.no_grad():
        small_model.model.get_input_embeddings().weight[:, 3] = float("nan")
    try:
        measured = second_moments(subject, small_model, PROSE, 2, seed)
    except ValueError:
        return
    assert measured
    assert not any(torch.isfinite(moments).all() for moments in measured.values())


# --------------------------------------------------------------------------- the effect on real layers

WINDOW = 128
WINDOWS = 8
LAYERS = 14


@dataclass(frozen=True)
class RealLayer:
    """A layer of an audited model: its weight, the moments measured on one text, and its inputs on another."""

    weight: Tensor
    moments: Tensor
    inputs: Float64[Tensor, "tokens in"]


@pytest.fixture(scope="module")
def real_layers(subject: Subject, reference: ReferenceModel, seed: int) -> tuple[RealLayer, ...]:
    """Up to 14 layers from the first block to the last; the subject calibrates on one half of the held-out text."""
    calibrates = require(subject, Calibrates)
    text = held_out_text()
    model, tokenizer = reference.model, reference.tokenizer
    measured = calibrates.second_moments(model, tokenizer, text[: len(text) // 2], WINDOWS, WINDOW, seed)
    names = [name for name in measured if isinstance(model.get_submodule(name), nn.Linear)]
    if not names:
        raise NotApplicable(f"{reference.name} has no linear layer that is calibrated")
    chosen = names[:: -(-len(names) // LAYERS)]
    tokens = torch.tensor(tokenizer.encode(text[len(text) // 2 :]))
    read = [moment_oracle.inputs_of(model, chosen, window) for window in torch.split(tokens, WINDOW)[:WINDOWS]]
    return tuple(
        RealLayer(weight_of(model, name), measured[name], torch.cat([inputs[name] for inputs in read]))
        for name in chosen
    )


def weight_of(model: Any, name: str) -> Tensor:
    weight: Tensor = model.get_submodule(name).weight.detach()
    return weight


@measures_moments
@of_calibrated_rules
def test_calibration_lowers_the_output_error_of_real_layers(
    subject: Subject, variant: WeightVariant, real_layers: tuple[RealLayer, ...], evidence: Evidence
) -> None:
    """E||(W - Q) x||^2 on text that was not calibrated on, over that of the same rule without calibration."""
    ratios = []
    for layer in real_layers:
        errors = []
        for moments in (layer.moments, None):
            quantized = quantize(subject, layer.weight, variant, moments)
            restored = require(subject, QuantizesWeights).dequantize(quantized, variant)
            errors.append(float((layer.inputs @ (layer.weight - restored).double().T).square().sum()))
        ratios.append(errors[0] / errors[1])
    evidence.figure("calibrated_output_error_ratio", float(np.mean(ratios)))
    evidence.note(f"over {len(ratios)} layers from {min(ratios):.3f} to {max(ratios):.3f}")
    assert np.mean(ratios) < 1
