"""Gradient flow through the compressed artefact of each audited model, and proof that a broken one would be seen.

The artefact is loaded in trainable form and the language-model loss on held-out text is backpropagated. The same
function that finds nothing wrong with it is then given the same model with one layer detached, zeroed or poisoned.
That gradients arrive does not say that they are right: they are compared with autograd of the declared surrogate, taken
through plain transformers modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

from harness.evidence import Evidence
from harness.oracles.gradients import relative_difference, surrogate_gradients
from harness.subject import ChecksGradientFlow, QuantizesActivations, Subject, require
from suites.fixtures_artifacts import Artifacts
from suites.stored_weights import layers_of, multiplier

flows = pytest.mark.criterion("1.2.ste-gradient-flow", "5.red.gradient-flow", "6.critical.gradient-flow")
is_tested_by_the_pipeline = pytest.mark.criterion("6.critical.gradient-flow")

TOKENS = 64
LARGEST_DIFFERENCE = 1e-3
"""Where sums in another order tip a few activations over to the next code; a wrong surrogate is off by far more."""


# --------------------------------------------------------------------------- the check


def gradient_faults(model: nn.Module, names: Mapping[str, object], tokens: Tensor) -> dict[str, str]:
    """What is wrong, by layer: each must have a finite, non-zero latent weight and receive a finite, non-zero gradient.

    Where a weight holds NaN no loss can be computed, so that the layers with one are all that is reported.
    """
    weights = {name: latent(model, name) for name in names}
    if poisoned := {name for name, weight in weights.items() if not torch.isfinite(weight).all()}:
        return dict.fromkeys(poisoned, "its weight is not finite")
    model.zero_grad(set_to_none=True)
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    faults = {name: fault(weight) for name, weight in weights.items()}
    model.zero_grad(set_to_none=True)
    return {name: found for name, found in faults.items() if found}


def latent(model: nn.Module, name: str) -> nn.Parameter:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, nn.Parameter), f"{name} has no latent weight to train"
    return weight


def fault(weight: nn.Parameter) -> str:
    if weight.grad is None:
        return "no gradient arrives"
    if not torch.isfinite(weight.grad).all():
        return "its gradient is not finite"
    if not weight.grad.any():
        return "its gradient is zero"
    return "" if weight.any() else "its weight is zero"


# --------------------------------------------------------------------------- what breaks a layer


@contextmanager
def detached(layer: nn.Module) -> Iterator[None]:
    """Its output leaves the graph, as by a stray `.detach()` or `.data`."""
    hook = layer.register_forward_hook(lambda _module, _arguments, output: output.detach())
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def filled(layer: nn.Module, value: float) -> Iterator[None]:
    weight = layer.get_parameter("weight")
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.fill_(value)
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


@contextmanager
def multiplied(layer: nn.Module, factor: float) -> Iterator[None]:
    """Its gradient is multiplied by a factor, such as 0 or NaN, on its way to the weight."""
    weight: Any = layer.get_parameter("weight")
    hook = weight.register_hook(lambda gradient: gradient * factor)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def frozen(layer: nn.Module) -> Iterator[None]:
    weight = layer.get_parameter("weight")
    weight.requires_grad_(False)
    try:
        yield
    finally:
        weight.requires_grad_(True)


BREAKAGES: Final[Mapping[str, Callable[[nn.Module], Any]]] = {
    "detached": detached,
    "zeroed": lambda layer: filled(layer, 0.0),
    "nan": lambda layer: filled(layer, float("nan")),
    "zero-gradient": lambda layer: multiplied(layer, 0.0),
    "nan-gradient": lambda layer: multiplied(layer, float("nan")),
    "frozen": frozen,
}

QUICK: Final = ("detached", "zeroed", "nan")
"""The ones that the audit's rows name; the others are left to the full profile."""

every_breakage = pytest.mark.parametrize(
    "breakage",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.profile("full")]) for name in BREAKAGES],
)


# --------------------------------------------------------------------------- the artefact


@pytest.fixture(scope="session")
def trainable(artifacts: Artifacts) -> nn.Module:
    """The trainable form of the artefact; a check that damages it repairs it."""
    return artifacts.trainable()


@pytest.fixture(scope="session")
def tokens(artifacts: Artifacts) -> Tensor:
    """The beginning of the unseen text."""
    return torch.tensor([artifacts.tokenizer.encode(artifacts.unseen_text)[:TOKENS]])


@flows
def test_a_gradient_reaches_every_quantized_layer(
    artifacts: Artifacts, trainable: nn.Module, tokens: Tensor, evidence: Evidence
) -> None:
    assert artifacts.weights, "the artefact has no quantized layer"
    faults = gradient_faults(trainable, artifacts.weights, tokens)
    evidence.figure("layers_with_gradient", len(artifacts.weights) - len(faults))
    evidence.figure("quantized_layers", len(artifacts.weights))
    assert faults == {}


@flows
@every_breakage
def test_a_broken_layer_fails_the_same_check(
    artifacts: Artifacts, trainable: nn.Module, tokens: Tensor, breakage: str
) -> None:
    """One layer in the middle of the model is broken: it is named."""
    name = middle_layer(artifacts)
    with BREAKAGES[breakage](trainable.get_submodule(name)):
        assert name in gradient_faults(trainable, artifacts.weights, tokens)


def middle_layer(artifacts: Artifacts) -> str:
    names = list(artifacts.weights)
    return names[len(names) // 2]


@flows
def test_gradients_are_those_of_the_declared_surrogate(
    subject: Subject, artifacts: Artifacts, trainable: nn.Module, tokens: Tensor, evidence: Evidence
) -> None:
    """Every layer's gradient against autograd through plain transformers modules that hold scale x codes."""
    trainable.zero_grad(set_to_none=True)
    trainable(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    measured = {name: latent(trainable, name).grad for name in artifacts.weights}
    trainable.zero_grad(set_to_none=True)
    differences = {}
    for name, expected in expected_gradients(subject, artifacts, trainable, tokens).items():
        found = measured[name]
        assert found is not None, f"{name}: no gradient arrives"
        differences[name] = relative_difference(found, expected)
    worst = max(differences, key=lambda name: (math.isnan(differences[name]), differences[name]))
    evidence.figure("gradient_relative_difference", differences[worst])
    assert differences[worst] <= LARGEST_DIFFERENCE, f"{worst}: off by {differences[worst]:.1e} of its norm"


def expected_gradients(
    subject: Subject, artifacts: Artifacts, trainable: nn.Module, tokens: Tensor
) -> dict[str, Tensor]:
    """The oracle's, for the identity; the clipped estimator lets nothing through to a weight beyond its scale."""
    model = artifacts.plain_form()
    layers = layers_of(model, artifacts.weights)
    gradients = surrogate_gradients(model, layers, lambda x: quantized_input(subject, x), tokens)
    if subject.declaration.ste == "clipped":
        for name, weight in artifacts.weights.items():
            gradients[name] = gradients[name] * (latent(trainable, name).abs() <= multiplier(subject, weight))
    return gradients


def quantized_input(subject: Subject, x: Tensor) -> Tensor:
    """What the subject's own activation quantizer makes of an input; `test_activations` judges that one."""
    if subject.declaration.activation_range is None:
        return x
    codes, scale = require(subject, QuantizesActivations).quantize_activation(x)
    return codes * scale


# --------------------------------------------------------------------------- the pipeline's own test


@is_tested_by_the_pipeline
def test_the_pipelines_own_test_passes_the_artefact(
    subject: Subject, artifacts: Artifacts, trainable: nn.Module, tokens: Tensor
) -> None:
    """When it is run again on the files, and in the report that the compression left behind."""
    assert list(require(subject, ChecksGradientFlow).gradient_failures(trainable, tokens)) == []
    report = artifacts.outcome.report
    assert report is None or report.gradient_failures == ()


@is_tested_by_the_pipeline
@every_breakage
def test_the_pipelines_own_test_fails_a_broken_artefact(
    subject: Subject, artifacts: Artifacts, trainable: nn.Module, tokens: Tensor, breakage: str
) -> None:
    """A gate that rests on it is worth as much as its failures."""
    check = require(subject, ChecksGradientFlow).gradient_failures
    name = middle_layer(artifacts)
    with BREAKAGES[breakage](trainable.get_submodule(name)):
        assert name in check(trainable, tokens)
