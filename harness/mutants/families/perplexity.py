"""Mutants of the definition of perplexity."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.perplexity import PerplexitySubject

LIKELIHOOD = "test_loglikelihood_of_each_document_is_lm_evals"
TOKENS = "test_every_token_is_predicted_once"
FIGURES = "test_figure_is_the_one_of_lm_evals_loglikelihood"
COUNTS = "test_words_and_bytes_are_those_of_the_original_text"
ORDER = "test_order_of_documents_changes_nothing"
PADDING = "test_padding_beside_longer_documents_changes_nothing"
BEHIND = "test_a_document_is_not_the_context_of_the_next_one"
ACCURACY = "test_next_token_accuracy_is_the_share_of_greedy_hits"
EMPTY = "test_empty_text_is_an_error"

FAMILIES = (
    family_of_words(
        "perplexity",
        Stage("test_perplexity.py", ("random",), only="not context160"),
        lambda words, _: PerplexitySubject(words),
        {
            "": "5.red.perplexity",
            ACCURACY: "6.critical.perplexity",
            ORDER: "6.critical.perplexity",
            PADDING: "6.critical.perplexity",
            BEHIND: "6.critical.perplexity",
            EMPTY: "6.critical.perplexity",
        },
        {
            "mean of window means": (FIGURES,),
            "mean of document means": (FIGURES,),
            "N-1 for N": (FIGURES,),
            "no BOS on the first window": (LIKELIHOOD, TOKENS, FIGURES, ACCURACY),
            "no left context for the last window": (LIKELIHOOD, FIGURES),
            "words by split": (COUNTS, FIGURES),
            "characters for bytes": (COUNTS, FIGURES),
            "nats for bits": (FIGURES,),
            "padding on the left unmasked": (LIKELIHOOD, FIGURES, PADDING, ACCURACY),
            "context carried over from the document before": (BEHIND, LIKELIHOOD, FIGURES, ORDER, PADDING),
            "documents sorted by length": (ORDER, LIKELIHOOD, PADDING, BEHIND),
            "accuracy shifted by one": (ACCURACY,),
            "empty text scores": (EMPTY,),
        },
    ),
)
