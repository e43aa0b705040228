"""Recovery: what is left of the perplexity increase after the subject's own fine-tuning, on text that it never saw."""

from __future__ import annotations

import pytest

from harness.evidence import Evidence
from harness.oracles.perplexity import greedy_accuracy, lm_eval_perplexity
from harness.statistics import accuracy_difference, perplexity_increase
from harness.subject import NotApplicable
from harness.texts import documents_of
from suites.fixtures_artifacts import Artifacts
from suites.fixtures_models import ReferenceModel

CONTEXT_LENGTH = 128
DOCUMENT_CHARACTERS = 400
"""Of the documents that the intervals resample: long enough for a context, and short enough to be many."""

recovers_quality = pytest.mark.criterion("1.1.fine-tuning", "1.2.fine-tuning-recovery")


@recovers_quality
def test_perplexity_recovers(reference: ReferenceModel, request: pytest.FixtureRequest, evidence: Evidence) -> None:
    """Models below 50M parameters; fine-tuning a larger one takes longer than the quick profile has."""
    if reference.large:
        raise NotApplicable(f"{reference.name} is large: measured in the full profile")
    record_increase(request.getfixturevalue("artifacts"), evidence)


@recovers_quality
@pytest.mark.profile("full")
def test_perplexity_of_large_models_recovers(
    reference: ReferenceModel, request: pytest.FixtureRequest, evidence: Evidence
) -> None:
    if not reference.large:
        raise NotApplicable(f"{reference.name} is not large: measured in every profile")
    record_increase(request.getfixturevalue("artifacts"), evidence)


def record_increase(artifacts: Artifacts, evidence: Evidence) -> None:
    """Record the relative increase of lm-eval's token perplexity over the full-precision model, and what accuracy lost.

    Both have paired 95 % intervals over documents. The text is neither what the model is calibrated and fine-tuned on
    nor what the subject may choose a model by.
    """
    assert artifacts.recovered, "the model was compressed with recovery switched off"
    documents, tokenizer = documents_of(artifacts.unseen_text, DOCUMENT_CHARACTERS), artifacts.tokenizer
    models = (artifacts.reference.model, artifacts.packed)
    before, after = (lm_eval_perplexity(model, tokenizer, documents, CONTEXT_LENGTH) for model in models)
    evidence.figure("perplexity_full_precision", before.token_perplexity)
    evidence.figure("perplexity_recovered", after.token_perplexity)
    increase = perplexity_increase(before.loglikelihoods, after.loglikelihoods, before.tokens)
    evidence.figure("recovered_perplexity_increase", increase.value, interval=(increase.low, increase.high))
    hits = [
        [
            round(greedy_accuracy(model, tokenizer, document, CONTEXT_LENGTH) * tokens)
            for document, tokens in zip(documents, before.tokens, strict=True)
        ]
        for model in models
    ]
    change = accuracy_difference(hits[0], hits[1], before.tokens)
    evidence.figure("recovered_accuracy_difference", change.value, interval=(change.low, change.high))
    evidence.note(f"intervals over {len(documents)} documents of {sum(before.tokens)} tokens")
    for name, path in artifacts.artefacts.items():
        evidence.artefact(name, path)
