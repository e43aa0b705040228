"""The next phase, in small: what Phase 5 does first with the output that it is handed is to train on it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.evidence import Evidence
from harness.texts import PROSE
from suites.fixtures_small import SmallCompression
from suites.small_models import byte_tokenizer

STEPS, RATE, TOKENS = 3, 1e-3, 128

goes_out = pytest.mark.criterion("2.phase5-handoff")


@goes_out
def test_the_output_can_be_trained_on(small_compression: SmallCompression, evidence: Evidence) -> None:
    """By transformers and torch alone: every parameter receives a finite gradient and moves, and the loss falls."""
    folder = small_compression.outcome.dequantized
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.tensor([AutoTokenizer.from_pretrained(folder).encode(PROSE)[:TOKENS]])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        losses.append(float(loss.detach()))
        gradients = {name: value.grad for name, value in model.named_parameters()}
        for name, gradient in gradients.items():
            assert gradient is not None, f"no gradient reaches {name}"
            assert bool(gradient.any()), f"the gradient of {name} is zero throughout"
            assert bool(torch.isfinite(gradient).all()), f"the gradient of {name} is not finite"
        optimizer.step()
    evidence.figure("loss_after_over_before", losses[-1] / losses[0])
    assert losses[-1] < losses[0]
    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []


@goes_out
def test_the_output_brings_the_tokenizer_of_the_original(small_compression: SmallCompression) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_compression.outcome.dequantized)
    assert tokenizer.encode(PROSE) == byte_tokenizer().encode(PROSE)
