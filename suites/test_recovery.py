"""Recovery: what is left of the perplexity increase after the subject's own fine-tuning, on text that it never saw."""

from __future__ import annotations

import pytest

from harness.evidence import Evidence
from harness.oracles.perplexity import lm_eval_perplexity
from harness.subject import NotApplicable
from suites.fixtures_artifacts import Artifacts
from suites.fixtures_models import ReferenceModel

CONTEXT_LENGTH = 128

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
    """Record the relative increase of lm-eval's token perplexity over the full-precision model.

    The text is neither what the model is calibrated and fine-tuned on nor what the subject may choose a model by.
    """
    assert artifacts.recovered, "the model was compressed with recovery switched off"
    before, after = (
        lm_eval_perplexity(model, artifacts.tokenizer, [artifacts.unseen_text], CONTEXT_LENGTH).token_perplexity
        for model in (artifacts.reference.model, artifacts.packed)
    )
    evidence.figure("perplexity_full_precision", before)
    evidence.figure("perplexity_recovered", after)
    evidence.figure("recovered_perplexity_increase", after / before - 1)
