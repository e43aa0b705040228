"""The subject's decoder on the packed artefact: it agrees with transformers on it, and refuses what does not fit.

The two may round differently, so logits are compared by what they say of a text. A model that knows less than uniform
guessing magnifies every rounding: it is reported under another name and not judged.
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

from harness.evidence import Evidence
from harness.subject import DecodesPacked, PackedDecoder, Subject, require
from suites.fixtures_artifacts import Artifacts
from suites.weights import rejected

decoder_agrees = pytest.mark.criterion("A.decoder-agrees")
TOKENS: Final = 192
STEPS: Final = 24
SAME_LOGITS: Final = 1e-3
"""Of the range of all logits: reading tokens one by one may sum in another order than reading them at once."""


@pytest.fixture(scope="module")
def text(artifacts: Artifacts) -> list[int]:
    """Tokens that neither calibration nor evaluation has seen."""
    tokens: list[int] = artifacts.tokenizer.encode(artifacts.unseen_text)[:TOKENS]
    return tokens


@pytest.fixture
def decoder(subject: Subject, artifacts: Artifacts) -> PackedDecoder:
    """The packed artefact, opened anew."""
    return require(subject, DecodesPacked).open_decoder(artifacts.outcome.packed)


def loss(logits: Float[Tensor, "length vocabulary"], tokens: Sequence[int]) -> float:
    """Mean negative log-likelihood of each token given those before it, in nats and float64."""
    scores = logits[:-1].double().log_softmax(-1)
    return -float(scores.gather(-1, torch.tensor(tokens)[1:, None]).mean())


@decoder_agrees
def test_perplexity_is_that_of_transformers(
    decoder: PackedDecoder, artifacts: Artifacts, text: list[int], evidence: Evidence
) -> None:
    """On one text, both on the artefact as written."""
    with torch.no_grad():
        theirs = artifacts.packed(input_ids=torch.tensor([text])).logits[0].float()
    ours = decoder.logits(text)
    assert ours.shape == theirs.shape
    assert torch.isfinite(ours).all()
    difference = abs(float(torch.tensor(loss(ours, text) - loss(theirs, text)).expm1()))
    perplexity = float(torch.tensor(loss(theirs, text)).exp())
    knows = perplexity <= theirs.shape[1]
    evidence.figure(
        "decoder_perplexity_difference" if knows else "difference_of_a_model_that_knows_nothing", difference
    )
    evidence.figure("largest_logit_difference", (ours - theirs).abs().max())
    evidence.figure("packed_perplexity_of_the_text", perplexity)
    alike = torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1]
    assert alike > 0.99, f"the logits correlate by {alike}: this is another model"


@decoder_agrees
def test_tokens_one_by_one_give_the_logits_of_one_pass(decoder: PackedDecoder, text: list[int]) -> None:
    """After `reset`, and from the cache."""
    whole = decoder.logits(text[:STEPS])
    decoder.reset()
    steps = torch.stack([decoder.forward(text[:3]), *(decoder.forward([token]) for token in text[3:STEPS])])
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
