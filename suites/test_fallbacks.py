"""Fallbacks: whatever was not done as asked is named in the result, and nothing else is.

Provoked here is what can be provoked on every machine: texts that were not given, a text that is too short for the
samples asked for, a model with fewer positions than the default context, recovery called for but switched off.
"""

from __future__ import annotations

import json
import re
from typing import Final

import pytest
import torch
from transformers import PreTrainedModel

from harness.evidence import Evidence
from harness.subject import JSON, CompressesModels, Subject, require
from harness.texts import held_out_excerpt
from suites.fixtures_small import SmallCompression, SmallFiles
from suites.small_models import byte_tokenizer, save_random_llama

POSITIONS: Final = 64
SAMPLES_ASKED: Final = 1_000_000
TRAINING_CHARACTERS, TRAINING_STEPS, TRAINING_RATE = 4_000, 80, 1e-2

PROVOKED: Final = {
    "calibration_text": "no text to calibrate on is given",
    "evaluation_text": "no text to evaluate on is given",
    "calibration_samples": "the calibration text holds fewer samples than asked for",
    "context_length": "the model has fewer positions than the default context",
    "recovery": "perplexity rises beyond the trigger and no fine-tuning step is allowed",
}

names_fallbacks = pytest.mark.criterion("2.fallback-chains", "4.fallback-chains")


@pytest.fixture(scope="module")
def taken(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What one compression names, in which everything of `PROVOKED` happens at once: one JSON text for each entry."""
    folder = tmp_path_factory.mktemp("provoked")
    model = save_random_llama(folder / "model", layers=1, change=shorten_and_train)
    overrides = {"calibration_samples": str(SAMPLES_ASKED), "fine_tune_steps": "0", "fine_tune_trigger": "0"}
    return named(require(subject, CompressesModels).compress(model, folder / "out", overrides).result)


def shorten_and_train(model: PreTrainedModel) -> None:
    """Give the model few positions, and a block that has learnt something, so that compression must do harm."""
    model.config.max_position_embeddings = POSITIONS
    tokens = torch.tensor(byte_tokenizer().encode(held_out_excerpt(TRAINING_CHARACTERS)))
    windows = tokens[: len(tokens) // POSITIONS * POSITIONS].reshape(-1, POSITIONS)
    optimizer = torch.optim.Adam(model.model.layers.parameters(), lr=TRAINING_RATE)
    for step in range(TRAINING_STEPS):
        optimizer.zero_grad()
        batch = windows[step % 4 :: 4]
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()


@names_fallbacks
@pytest.mark.parametrize("name", PROVOKED)
def test_a_fallback_that_was_taken_is_named(taken: list[str], name: str, evidence: Evidence) -> None:
    """By the name of the setting, or of the stage, that could not be had as asked."""
    evidence.note(f"{name}: {PROVOKED[name]}")
    assert [entry for entry in taken if name in entry], f"{PROVOKED[name]}, and the result names only {taken}"


@names_fallbacks
def test_a_shortfall_says_what_was_used_instead(taken: list[str]) -> None:
    """The samples that the text really held, and the positions that the model really has."""
    (samples,) = (entry for entry in taken if "calibration_samples" in entry)
    assert any(0 < int(number) < SAMPLES_ASKED for number in re.findall(r"\d+", samples)), samples
    (context,) = (entry for entry in taken if "context_length" in entry)
    assert str(POSITIONS) in re.findall(r"\d+", context), context


@names_fallbacks
def test_no_fallback_is_named_where_none_was_taken(small: SmallFiles, small_compression: SmallCompression) -> None:
    assert small.overrides.keys() >= {"calibration_text", "evaluation_text", "calibration_samples"}
    assert named(small_compression.outcome.result) == []


def named(result: object) -> list[str]:
    """The entries under `fallbacks` in a recorded result, whatever their form."""
    assert isinstance(result, dict)
    entries: JSON = result["fallbacks"]
    assert isinstance(entries, list)
    return [json.dumps(entry) for entry in entries]
