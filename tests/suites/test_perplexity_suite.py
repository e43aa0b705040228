"""Each wrong definition of perplexity turns the checks of its own name RED, and no others."""

from pathlib import Path

import pytest

from suites.small_models import save_random_llama
from tests.suites.audits import Audit, audit, checks_in

LIKELIHOOD = "test_loglikelihood_of_each_document_is_lm_evals"
TOKENS = "test_every_token_is_predicted_once"
FIGURES = "test_figure_is_the_one_of_lm_evals_loglikelihood"
COUNTS = "test_words_and_bytes_are_those_of_the_original_text"
ORDER = "test_order_of_documents_changes_nothing"
PADDING = "test_padding_beside_longer_documents_changes_nothing"
BEHIND = "test_a_document_is_not_the_context_of_the_next_one"
ACCURACY = "test_next_token_accuracy_is_the_share_of_greedy_hits"
EMPTY = "test_empty_text_is_an_error"

WRONG_DEFINITIONS = {
    "mean of window means": {FIGURES},
    "mean of document means": {FIGURES},
    "N-1 for N": {FIGURES},
    "no BOS on the first window": {LIKELIHOOD, TOKENS, FIGURES, ACCURACY},
    "no left context for the last window": {LIKELIHOOD, FIGURES},
    "words by split": {FIGURES, COUNTS},
    "characters for bytes": {FIGURES, COUNTS},
    "nats for bits": {FIGURES},
    "padding on the left unmasked": {LIKELIHOOD, FIGURES, PADDING, ACCURACY},
    "context carried over from the document before": {LIKELIHOOD, FIGURES, ORDER, PADDING, BEHIND},
    "documents sorted by length": {LIKELIHOOD, ORDER, PADDING, BEHIND},
    "accuracy shifted by one": {ACCURACY},
    "empty text scores": {EMPTY},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "random", layers=1)


def run(folder: Path, model: Path, defect: str, only: str = "not context160") -> Audit:
    source = (
        "from tests.suites.perplexity_subjects import PerplexitySubject\n"
        f"def factory():\n    return PerplexitySubject({defect!r})\n"
    )
    return audit(folder, "test_perplexity.py", source, [model], only)


def test_the_right_definition_passes_every_check(tmp_path: Path, model: Path) -> None:
    done = run(tmp_path, model, "", only="")
    assert done.red == set(), done.messages()
    name = "perplexity_relative_difference"
    differences = [record.figures[name].value for record in done.records if name in record.figures]
    assert len(differences) == 4 * 5  # settings, times log-likelihoods and four figures
    assert max(differences) < 1e-6


@pytest.mark.parametrize("defect", WRONG_DEFINITIONS)
def test_a_wrong_definition_is_caught_under_its_own_name(tmp_path: Path, model: Path, defect: str) -> None:
    done = run(tmp_path, model, defect)
    assert done.red == WRONG_DEFINITIONS[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*WRONG_DEFINITIONS.values()) == checks_in("test_perplexity.py")


def test_only_the_token_perplexity_is_blamed_for_a_wrong_divisor(tmp_path: Path, model: Path) -> None:
    red = run(tmp_path, model, "N-1 for N").with_outcome("failed", "error")
    assert red
    assert all("token_perplexity" in name for name in red)


def test_a_subject_that_measures_no_perplexity_is_not_applicable(tmp_path: Path, model: Path) -> None:
    source = "from tests.suites.subjects import BareSubject\ndef factory():\n    return BareSubject()\n"
    done = audit(tmp_path, "test_perplexity.py", source, [model])
    assert {record.outcome for record in done.records} == {"not_applicable"}
