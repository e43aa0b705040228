"""Fine-tuning with warm-up: the learning rate that every parameter really sees, and losses that fall."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.evidence import Evidence
from harness.subject import CompressesModels, FineTunes, Subject, require
from harness.texts import held_out_text
from suites.fixtures_small import SmallCompression
from suites.small_models import byte_tokenizer

SAMPLES, TOKENS = 12, 32
WARMUP: Final = 4
STEPS: Final = WARMUP + 2
SMALL_RATE: Final = 1e-4
"""So small that weights, and with them gradients, hardly move over the steps: updates differ by the rate alone."""
TOLERANCE: Final = 0.05
TRAINING_STEPS, TRAINING_RATE = 30, 3e-3

warms_up = pytest.mark.criterion("2.fine-tuning-warmup")


@pytest.fixture(scope="module")
def samples() -> Tensor:
    """Int64 token ids, [SAMPLES, TOKENS]."""
    tokens = byte_tokenizer().encode(held_out_text()[: 2 * SAMPLES * TOKENS])[: SAMPLES * TOKENS]
    return torch.tensor(tokens).reshape(SAMPLES, TOKENS)


@warms_up
def test_the_rate_rises_to_its_full_value_for_every_parameter(
    subject: Subject, small_compression: SmallCompression, samples: Tensor, evidence: Evidence
) -> None:
    """Step s of w runs at (s - 1) / w to s / w of the full rate, later ones at all of it.

    Seen from outside: each step's update over that of the same step without warm-up, one parameter at a time. A
    schedule that is written where nothing reads it, or that reaches some of the parameters, shows here.
    """
    packed = small_compression.outcome.packed
    latent = {f"{name}.weight" for name in require(subject, CompressesModels).quantized_weights(packed)}
    with_warmup, without = (updates(subject, packed, samples, warmup_steps) for warmup_steps in (WARMUP, 1))
    for step, (plain, slowed) in enumerate(zip(without, with_warmup, strict=True), start=1):
        rates = {name: slowed[name] / size for name, size in plain.items() if size > 0.0}
        assert rates.keys() >= latent, "a quantized layer does not learn"
        low, high = min(1.0, (step - 1) / WARMUP), min(1.0, step / WARMUP)
        evidence.figure(f"smallest_rate_of_step_{step}", min(rates.values()))
        evidence.figure(f"largest_rate_of_step_{step}", max(rates.values()))
        outside = {name: rate for name, rate in rates.items() if not low - TOLERANCE <= rate <= high + TOLERANCE}
        assert not outside, f"step {step} should run at {low} to {high} of the full rate"


@warms_up
def test_the_loss_falls(
    subject: Subject, small_compression: SmallCompression, samples: Tensor, evidence: Evidence
) -> None:
    """Cross-entropy of the straight-through model on what it was trained on, before and after."""
    packed = small_compression.outcome.packed
    before = loss(require(subject, CompressesModels).load_trainable(packed), samples)
    tuned = require(subject, FineTunes).fine_tune(packed, samples, TRAINING_STEPS, WARMUP, TRAINING_RATE)
    after = loss(tuned, samples)
    evidence.figure("loss_before", before, "nats")
    evidence.figure("loss_after", after, "nats")
    assert after < before


def updates(subject: Subject, packed: Path, samples: Tensor, warmup_steps: int) -> list[dict[str, float]]:
    """For each step, the Frobenius norm of what it did to each parameter."""
    before = parameters(require(subject, CompressesModels).load_trainable(packed))
    norms = []
    for steps in range(1, STEPS + 1):
        after = parameters(require(subject, FineTunes).fine_tune(packed, samples, steps, warmup_steps, SMALL_RATE))
        norms.append({name: float((after[name] - before[name]).norm()) for name in after})
        before = after
    return norms


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Copies in float64."""
    return {name: parameter.detach().double().clone() for name, parameter in model.named_parameters()}


@torch.no_grad()
def loss(model: nn.Module, samples: Tensor) -> float:
    """Mean cross-entropy of each sample's tokens but its first, in nats."""
    logits = model.eval()(input_ids=samples).logits[:, :-1].double()
    return float(cross_entropy(logits.flatten(0, 1), samples[:, 1:].flatten()))
