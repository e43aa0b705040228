"""The subject's decoder on the packed artefact: it agrees with transformers on it, and refuses what does not fit.

The two may round differently. Part by part, on one input each, nothing but rounding may set them apart; end to end, no
more than another rounding sets transformers apart from itself; and logits are compared by what they say of a text. A
model that knows less than uniform guessing magnifies every rounding, and a text may be too short to tell so small a
difference: both are reported under names of their own and not judged.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from harness.evidence import Evidence, Profile
from harness.subject import DecodesPacked, NotApplicable, PackedDecoder, RunsLayers, Subject, require
from harness.texts import whole_text
from suites.decoder_agreement import WIDEST, Reading
from suites.fixtures_artifacts import Artifacts
from suites.layer_agreement import PartReading, rounded_otherwise
from suites.weights import rejected

decoder_agrees = pytest.mark.criterion("A.decoder-agrees")
STEPS: Final = 24
WINDOW, WINDOWS, FEW_WINDOWS = 512, 32, 7
"""16,384 tokens; in the quick profile a large model reads 3,584, which take half a minute."""
ROUNDED, FEW_ROUNDED = 8, 2
"""Of these windows, those that transformers reads once more, rounded otherwise."""
PART, PARTS = 64, 4
"""Tokens and number of the windows that are read part by part."""
SAME_LOGITS: Final = 1e-3
"""Of the range of all logits: reading tokens one by one may sum in another order than reading them at once."""


@pytest.fixture(scope="module")
def text(artifacts: Artifacts) -> list[int]:
    """Tokens that neither calibration nor evaluation has seen."""
    tokens: list[int] = artifacts.tokenizer.encode(artifacts.unseen_text)[:STEPS]
    return tokens


@pytest.fixture
def decoder(subject: Subject, artifacts: Artifacts) -> PackedDecoder:
    """The packed artefact, opened anew."""
    return require(subject, DecodesPacked).open_decoder(artifacts.outcome.packed)


@decoder_agrees
def test_perplexity_is_that_of_transformers(
    decoder: PackedDecoder, artifacts: Artifacts, profile: Profile, seed: int, evidence: Evidence
) -> None:
    """On one text, both on the artefact as written."""

    def ours(window: Sequence[int]) -> Float[Tensor, "length vocabulary"]:
        decoder.reset()
        return decoder.logits(window)

    def theirs(window: Sequence[int]) -> Float[Tensor, "length vocabulary"]:
        with torch.inference_mode():
            logits: Tensor = artifacts.packed(input_ids=torch.tensor([window])).logits[0]
        return logits

    def rounded(window: Sequence[int]) -> Float[Tensor, "length vocabulary"]:
        with rounded_otherwise(artifacts.packed, seed):
            return theirs(window)

    reading, few = Reading(), profile == "quick" and artifacts.reference.large
    count, again = (FEW_WINDOWS, FEW_ROUNDED) if few else (WINDOWS, ROUNDED)
    for index, window in enumerate(windows(artifacts, count, WINDOW)):
        reading.read(window, ours, theirs, rounded if index < again else None)
    report(reading, artifacts.packed.config.vocab_size, evidence)


@decoder_agrees
def test_each_part_computes_what_that_of_transformers_does(
    decoder: PackedDecoder, artifacts: Artifacts, seed: int, evidence: Evidence
) -> None:
    """Embedding, every layer and head, each on the input that transformers gives it."""
    if not isinstance(decoder, RunsLayers):
        raise NotApplicable("the decoder cannot be taken apart")
    reading = PartReading()
    for index, window in enumerate(windows(artifacts, PARTS, PART)):
        reading.read(artifacts.packed, decoder, window, seed + index)
    ours, rounding = reading.shares()
    evidence.figure("largest_part_distance_in_roundings", float(reading.times_rounding().max()), "x")
    evidence.figure("tokens_set_apart_by_a_step", ours)
    evidence.figure("tokens_set_apart_by_rounding_alone", rounding)
    evidence.figure("largest_part_distance", reading.largest())
    names = ["embedding", *(f"layer {index}" for index in range(decoder.layers)), "head"]
    reading.hold(names.__getitem__)


def windows(artifacts: Artifacts, count: int, length: int) -> list[list[int]]:
    """Windows of a long text, each as long as is asked for and the model takes."""
    tokens: list[int] = artifacts.tokenizer.encode(whole_text())
    size = min(length, artifacts.packed.config.max_position_embeddings)
    starts = range(0, min(count * size, len(tokens) - size + 1), size)
    return [tokens[start : start + size] for start in starts]


def report(reading: Reading, vocabulary: int, evidence: Evidence) -> None:
    """The difference under the name that says what it is."""
    size, knows = reading.size, reading.perplexity <= vocabulary
    name = "difference_of_a_model_that_knows_nothing"
    if knows:
        name = "decoder_perplexity_difference" if reading.tells else "difference_within_the_noise_of_rounding"
    evidence.figure(name, size.value, interval=(size.low, size.high))
    evidence.figure("largest_logit_difference", reading.largest)
    evidence.figure("packed_perplexity_of_the_text", reading.perplexity)
    evidence.figure("tokens_read", reading.tokens)
    evidence.figure("drift_over_rounding", reading.drift, "x")
    signed = reading.difference
    evidence.note(
        f"over {reading.tokens} tokens the perplexities differ by {signed.value:+.2%} "
        f"({signed.low:+.2%} to {signed.high:+.2%})"
    )
    reading.hold_drift()
    if knows and not reading.tells:
        assert size.high <= WIDEST, f"the perplexities may differ by {size.high:.1%}: too far to be rounding"


@decoder_agrees
def test_tokens_one_by_one_give_the_logits_of_one_pass(decoder: PackedDecoder, text: list[int]) -> None:
    """After `reset`, and from the cache."""
    whole = decoder.logits(text)
    decoder.reset()
    steps = torch.stack([decoder.forward(text[:3]), *(decoder.forward([token]) for token in text[3:])])
    gap = (steps - whole[2:]).abs().max()
    assert gap <= SAME_LOGITS * (whole.max() - whole.min()), f"logits differ by {gap}"


@decoder_agrees
def test_tokens_that_do_not_exist_are_rejected(decoder: PackedDecoder, text: list[int]) -> None:
    vocabulary = len(decoder.forward(text[:2]))
    for bad in ([], [vocabulary], [-1]):
        rejected(decoder.forward, bad)
        rejected(decoder.logits, bad)


@decoder_agrees
def test_a_folder_that_is_damaged_is_rejected(subject: Subject, artifacts: Artifacts, tmp_path: Path) -> None:
    """Cut short, or not there at all: an error in words, never a crash."""
    open_decoder = require(subject, DecodesPacked).open_decoder
    folder = tmp_path / "packed"
    shutil.copytree(artifacts.outcome.packed, folder)
    largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size - 100)
    rejected(open_decoder, folder)
    rejected(open_decoder, tmp_path / "nowhere")
