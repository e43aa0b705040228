"""What was published, whatever a subject declares: BitNet b1.58 (arXiv:2402.17764) and the order of the updates.

The other suites hold a subject to its own declaration; a subject that declares something else, and does it, passes
there and fails here. Only one that declares the paper's rule, RoundClip(W / mean|W|) for the whole matrix, is held
to the paper. What the paper leaves open is left open: ties, the epsilon, whether int8 ends at 127 or at 128.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pytest
import torch
from torch import nn

from harness.evidence import Evidence
from harness.oracles import optimizer as optimizer_oracle
from harness.oracles import quantization as weight_oracle
from harness.oracles import ste as ste_oracle
from harness.subject import NotApplicable, Optimizes, QuantizesActivations, Subject, WeightVariant, require
from suites.strategies import gaussian_matrix
from suites.test_ste import layer_point, problem
from suites.variants import of_published_rule
from suites.weights import exact, multiplier, quantize, resolution

pytestmark = pytest.mark.criterion("A.as-published")

TYPICAL: Final = 0.02
"""Standard deviation of the weights of a language model, far above any epsilon."""
PUBLISHED_ORDER: Final = ("filter", "momentum", "orthogonalise")
ESTIMATOR_ERROR: Final = 1e-4
"""Relative; float32 sums of a few dozen terms round to less, and a factor or a mask is far more."""


@of_published_rule
def test_weights_are_quantized_as_published(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """Equations 1 to 3 on weights of a typical size: the share of other codes and the error of the scale."""
    weight = TYPICAL * gaussian_matrix(96, 160, seed)
    quantized = quantize(subject, weight, variant)
    rounding = resolution(weight, quantized, variant)
    published = replace(variant, scale_rule="absmean")
    reference = weight_oracle.reference_codes(exact(weight), published, rounding)
    other = ((quantized.codes.numpy() != reference.codes) & reference.decided).mean()
    expected = weight_oracle.mean_absolute(exact(weight), published)
    error = np.max(np.abs(multiplier(subject, quantized) - expected) / expected)
    evidence.figure("codes_other_than_published", other)
    evidence.figure("scale_error_to_published", error)
    assert other == 0
    assert error <= rounding


@of_published_rule
@pytest.mark.usefixtures("variant")
def test_activations_are_quantized_as_published(subject: Subject, seed: int, evidence: Evidence) -> None:
    """8 bits, by the largest magnitude of each token: no error beyond a whole step of 1/127 of it."""
    if subject.declaration.activation_range is None:
        raise NotApplicable(f"{subject.declaration.name} leaves activations to its user")
    x = gaussian_matrix(12, 64, seed) * 2.0 ** torch.arange(-5.0, 7.0).unsqueeze(1)
    codes, scale = require(subject, QuantizesActivations).quantize_activation(x)
    error = np.abs(exact(codes) * exact(scale) - exact(x)).max(axis=1) * 127 / np.abs(exact(x)).max(axis=1)
    evidence.figure("activation_error_in_steps", error.max())
    assert error.max() <= 1 + 1e-6


@of_published_rule
def test_gradients_are_estimated_as_published(
    subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence
) -> None:
    """The gradient of the quantized weight arrives at the latent weight as it is, also beyond the scale."""
    given = problem(subject, variant, seed)
    point = layer_point(subject, variant, given)
    given.layer(given.x).backward(given.upstream)
    expected = ste_oracle.surrogate_gradients(point, given.upstream.double(), "identity").weight
    latent = given.layer.weight
    assert isinstance(latent, nn.Parameter)
    assert latent.grad is not None, "no gradient arrived"
    distance = optimizer_oracle.relative_distance(latent.grad, expected)
    evidence.figure("gradient_distance_to_published", distance)
    assert distance <= ESTIMATOR_ERROR


def test_updates_are_made_in_the_published_order(subject: Subject, seed: int, evidence: Evidence) -> None:
    """Grokfast's filter, then Muon's momentum, then orthogonalisation, whatever order the subject declares."""
    optimizes = require(subject, Optimizes)
    hidden, generator = nn.Linear(24, 9, bias=False), torch.Generator().manual_seed(seed)
    gradients = [torch.randn(9, 24, generator=generator) for _ in range(3)]
    recipe, before = replace(optimizes.optimizer_recipe, order=PUBLISHED_ORDER), hidden.weight.detach().double().clone()
    optimizer = optimizes.optimizer(hidden, 0.5, 0.5, 2.0)
    for gradient in gradients:
        hidden.weight.grad = gradient.clone()
        optimizer.step()
    taken = (before - hidden.weight.detach().double()) / 0.5
    expected = torch.stack(optimizer_oracle.muon_updates(gradients, recipe, 0.5, 2.0)).sum(dim=0)
    distance = optimizer_oracle.relative_distance(taken, expected)
    evidence.figure("distance_to_published_order", distance)
    assert distance <= optimizer_oracle.BFLOAT16_ROUNDING
