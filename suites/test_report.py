"""The pipeline's own report: what the subject says of a compression is what its files hold, measured anew.

A report that is computed from what was in memory, from a configured value or from an earlier model reads as well as a
true one; here every number of it is measured again on the files.
"""

from __future__ import annotations

import math

import pytest

from harness.evidence import Evidence
from harness.oracles.perplexity import lm_eval_perplexity
from harness.subject import CompressionReport, NotApplicable, Subject
from suites.fixtures_artifacts import Artifacts
from suites.test_compression import folder_bytes, stored_zero_fraction

reports_the_truth = pytest.mark.criterion("5.yellow.integration-validation")

FULL_PRECISION_DIFFERENCE = 1e-6
QUANTIZED_DIFFERENCE = 1e-3
"""Other batches are summed in another order, which moves a few activations of a quantized model by a code."""


@pytest.fixture(scope="session")
def report(subject: Subject, artifacts: Artifacts) -> CompressionReport:
    """What the subject says of the compression."""
    if artifacts.outcome.report is None:
        raise NotApplicable(f"{subject.declaration.name} reports nothing of a compression")
    return artifacts.outcome.report


@reports_the_truth
def test_reported_size_is_the_size_on_disk(artifacts: Artifacts, report: CompressionReport) -> None:
    parameters, packed = artifacts.reference.parameters, folder_bytes(artifacts.outcome.packed)
    assert report.parameters == parameters
    assert report.packed_bytes == packed
    assert report.compression_ratio == pytest.approx(4 * parameters / packed, rel=1e-9)


@reports_the_truth
def test_reported_layers_and_zeros_are_the_stored_ones(artifacts: Artifacts, report: CompressionReport) -> None:
    assert sorted(report.quantized_layers) == sorted(artifacts.weights)
    assert report.zero_fraction == pytest.approx(stored_zero_fraction(artifacts.weights), abs=1e-9)


@reports_the_truth
def test_reported_perplexity_before_is_the_full_precision_models(
    artifacts: Artifacts, report: CompressionReport, evidence: Evidence
) -> None:
    """lm-eval on the evaluation text and the model that was handed in."""
    measured = lm_eval_perplexity(
        artifacts.reference.model, artifacts.reference.tokenizer, [artifacts.evaluation_text], report.context_length
    )
    assert_same(report.perplexity_before, measured.token_perplexity, FULL_PRECISION_DIFFERENCE, evidence)


@reports_the_truth
def test_reported_perplexity_after_is_the_packed_artefacts(
    artifacts: Artifacts, report: CompressionReport, evidence: Evidence
) -> None:
    """lm-eval on the evaluation text and the artefact as reloaded: writing and reading it have lost nothing."""
    measured = lm_eval_perplexity(
        artifacts.packed, artifacts.tokenizer, [artifacts.evaluation_text], report.context_length
    )
    assert_same(report.perplexity_after, measured.token_perplexity, QUANTIZED_DIFFERENCE, evidence)


def assert_same(reported: float, measured: float, limit: float, evidence: Evidence) -> None:
    difference = abs(reported - measured) / measured
    evidence.figure("token_perplexity", measured)
    evidence.figure("relative_difference_to_the_report", difference)
    assert math.isfinite(difference), f"reported {reported}, measured {measured}"
    assert difference <= limit, f"reported {reported}, measured {measured}"
