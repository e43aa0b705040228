"""Perplexity: every figure of the subject against lm-evaluation-harness itself, on real language models.

One log-likelihood per document decides everything else, so it is compared first; the counts that it is divided by,
and each of the four figures, are compared by themselves, so that a wrong definition shows up under its own name.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from harness.evidence import Evidence
from harness.oracles.perplexity import OraclePerplexity, greedy_accuracy, lm_eval_perplexity
from harness.subject import MeasuresPerplexity, PerplexityFigures, Subject, require
from harness.texts import scoring_texts
from suites.fixtures_models import ReferenceModel

MAXIMUM_RELATIVE_DIFFERENCE = 1e-6  # float32 forward passes of one model, batched differently, differ by about 1e-7
SETTINGS = [(context, batch) for context in (64, 160) for batch in (1, 3)]

validates_perplexity = pytest.mark.criterion("5.red.perplexity", "6.critical.perplexity")
keeps_perplexity_invariant = pytest.mark.criterion("6.critical.perplexity")


@dataclass(frozen=True)
class Comparison:
    """The subject's and lm-eval's figures for the same model, documents, context length and batch size."""

    subject: PerplexityFigures
    oracle: OraclePerplexity


@pytest.fixture(scope="module")
def score(subject: Subject) -> Callable[..., PerplexityFigures]:
    """Let the subject score documents with a reference model."""
    measure = require(subject, MeasuresPerplexity).perplexity

    def run(
        reference: ReferenceModel, documents: list[str], context_length: int = 64, batch_size: int = 3
    ) -> PerplexityFigures:
        return measure(reference.model, reference.tokenizer, documents, context_length, batch_size)

    return run


@pytest.fixture(scope="module")
def score_exactly(subject: Subject) -> Callable[..., PerplexityFigures]:
    """As `score`, in float64: what must not matter is not allowed to hide behind the rounding of float32 sums."""
    measure = require(subject, MeasuresPerplexity).perplexity

    def run(
        reference: ReferenceModel, documents: list[str], context_length: int = 64, batch_size: int = 3
    ) -> PerplexityFigures:
        return measure(reference.in_float64, reference.tokenizer, documents, context_length, batch_size)

    return run


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda setting: f"context{setting[0]}-batch{setting[1]}")
def comparison(
    request: pytest.FixtureRequest, reference: ReferenceModel, score: Callable[..., PerplexityFigures]
) -> Comparison:
    """Both sides on the three scoring texts, measured once and shared by the checks of this setting."""
    context_length, batch_size = request.param
    documents = list(scoring_texts().values())
    return Comparison(
        subject=score(reference, documents, context_length, batch_size),
        oracle=lm_eval_perplexity(reference.model, reference.tokenizer, documents, context_length, batch_size),
    )


@validates_perplexity
def test_loglikelihood_of_each_document_is_lm_evals(comparison: Comparison, evidence: Evidence) -> None:
    """Nothing is averaged away: an error in one document, window or token cannot hide in a summary."""
    measured, expected = comparison.subject.loglikelihoods, comparison.oracle.loglikelihoods
    for name, value in zip(scoring_texts(), measured, strict=True):
        evidence.figure(f"loglikelihood_{name}", value, "nats")
    assert_agree_with_oracle(measured, expected, evidence)


@validates_perplexity
def test_every_token_is_predicted_once(comparison: Comparison, evidence: Evidence) -> None:
    evidence.figure("tokens", comparison.subject.tokens)
    assert comparison.subject.tokens == sum(comparison.oracle.tokens)


@validates_perplexity
@pytest.mark.parametrize("name", ["token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"])
def test_figure_is_the_one_of_lm_evals_loglikelihood(comparison: Comparison, name: str, evidence: Evidence) -> None:
    """Summed over all tokens, then divided: a mean of window or document means is another figure."""
    measured, expected = getattr(comparison.subject, name), getattr(comparison.oracle, name)
    evidence.figure(name, measured)
    assert_agree_with_oracle([measured], [expected], evidence)


@validates_perplexity
def test_words_and_bytes_are_those_of_the_original_text(comparison: Comparison) -> None:
    """Counts that reproduce lm-eval's two normalisations: N = -log-likelihood / log(perplexity)."""
    total = -math.fsum(comparison.oracle.loglikelihoods)
    assert comparison.subject.words == round(total / math.log(comparison.oracle.word_perplexity))
    assert comparison.subject.bytes == round(total / math.log(comparison.oracle.byte_perplexity))


@keeps_perplexity_invariant
def test_next_token_accuracy_is_the_share_of_greedy_hits(
    reference: ReferenceModel, score: Callable[..., PerplexityFigures], evidence: Evidence
) -> None:
    """Hits counted window by window, without batching, over lm-eval's own windows."""
    document = scoring_texts()["prose"]
    measured = score(reference, [document]).next_token_accuracy
    evidence.figure("next_token_accuracy", measured)
    expected = greedy_accuracy(reference.model, reference.tokenizer, document, context_length=64)
    assert measured == pytest.approx(expected, abs=1e-12)


@keeps_perplexity_invariant
def test_order_of_documents_changes_nothing(
    reference: ReferenceModel, score_exactly: Callable[..., PerplexityFigures], evidence: Evidence
) -> None:
    documents = list(scoring_texts().values())
    forward, backward = score_exactly(reference, documents), score_exactly(reference, documents[::-1])
    assert_unchanged(
        [*forward.loglikelihoods, forward.token_perplexity],
        [*backward.loglikelihoods[::-1], backward.token_perplexity],
        evidence,
    )


@keeps_perplexity_invariant
def test_padding_beside_longer_documents_changes_nothing(
    reference: ReferenceModel, score_exactly: Callable[..., PerplexityFigures], evidence: Evidence
) -> None:
    """Documents of very different lengths in one batch, against each of them alone."""
    documents = ["A.", *scoring_texts().values()]
    together = score_exactly(reference, documents, 256, len(documents)).loglikelihoods
    alone = [score_exactly(reference, [document], 256, 1).loglikelihoods[0] for document in documents]
    assert_unchanged(together, alone, evidence)


@keeps_perplexity_invariant
def test_a_document_is_not_the_context_of_the_next_one(
    reference: ReferenceModel, score_exactly: Callable[..., PerplexityFigures], evidence: Evidence
) -> None:
    """Every document starts from the prefix token, also behind another one."""
    first, second, _ = scoring_texts().values()
    behind = score_exactly(reference, [first, second]).loglikelihoods[1]
    assert_unchanged([behind], [score_exactly(reference, [second]).loglikelihoods[0]], evidence)


@keeps_perplexity_invariant
@pytest.mark.parametrize("documents", [[], [""], ["Some text.", ""]], ids=["no-document", "empty", "one-empty"])
def test_empty_text_is_an_error(
    reference: ReferenceModel, score: Callable[..., PerplexityFigures], documents: list[str]
) -> None:
    """An empty set has no perplexity; implementations that return 1.0 or NaN for it let a gate pass."""
    with pytest.raises(Exception, match=r"\w"):
        score(reference, documents)


def assert_agree_with_oracle(measured: Sequence[float], expected: Sequence[float], evidence: Evidence) -> None:
    """Record the largest relative difference to lm-eval and hold it to the limit; NaN fails."""
    difference = largest_relative_difference(measured, expected)
    evidence.figure("perplexity_relative_difference", difference)
    assert difference <= MAXIMUM_RELATIVE_DIFFERENCE, f"{measured} against lm-eval's {expected}"


def assert_unchanged(measured: Sequence[float], expected: Sequence[float], evidence: Evidence) -> None:
    """Record the largest relative difference between two of the subject's own runs and hold it to the limit."""
    difference = largest_relative_difference(measured, expected)
    evidence.figure("invariance_relative_difference", difference)
    assert difference <= MAXIMUM_RELATIVE_DIFFERENCE, f"{measured} against {expected}"


def largest_relative_difference(measured: Sequence[float], expected: Sequence[float]) -> float:
    """NaN as soon as one of the differences is NaN."""
    differences = [abs(ours - theirs) / abs(theirs) for ours, theirs in zip(measured, expected, strict=True)]
    return math.nan if any(map(math.isnan, differences)) else max(differences)
