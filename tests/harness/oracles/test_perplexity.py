"""lm-eval as the oracle: on a model whose every prediction is known beforehand."""

import math
from types import SimpleNamespace

import pytest
import torch

from harness.errors import AuditError
from harness.oracles import perplexity as oracle
from suites.small_models import byte_tokenizer, random_llama

TEXT = "aab b"


@pytest.fixture(scope="module")
def model():
    return random_llama(layers=1)


def by_hand(model, tokenizer, text, context):
    """Log-likelihood of a text in one window: prefix token first, every token predicted once."""
    tokens = [tokenizer.bos_token_id, *tokenizer.encode(text)]
    assert len(tokens) - 1 <= context
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([tokens[:-1]])).logits[0].double(), dim=-1)
    return float(logprobs.gather(1, torch.tensor(tokens[1:])[:, None]).sum()), logprobs.argmax(-1), tokens[1:]


def test_figures_of_a_short_text_are_those_of_one_window(model):
    expected, _, tokens = by_hand(model, byte_tokenizer(), TEXT, 16)
    found = oracle.lm_eval_perplexity(model, byte_tokenizer(), [TEXT, "xy"], 16, batch_size=2)
    other, _, _ = by_hand(model, byte_tokenizer(), "xy", 16)
    total = -(expected + other)
    assert found.loglikelihoods == pytest.approx((expected, other), rel=1e-5)
    assert found.tokens == (len(tokens), 2) == (5, 2)
    assert found.token_perplexity == pytest.approx(math.exp(total / 7), rel=1e-5)
    assert found.word_perplexity == pytest.approx(math.exp(total / 3), rel=1e-4)
    assert found.byte_perplexity == pytest.approx(math.exp(total / 7), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(total / 7 / math.log(2), rel=1e-5)


def test_white_space_at_the_end_of_a_document_counts(model):
    found = oracle.lm_eval_perplexity(model, byte_tokenizer(), ["ab \n"], 16)
    assert found.loglikelihoods[0] == pytest.approx(by_hand(model, byte_tokenizer(), "ab \n", 16)[0], rel=1e-5)


@pytest.mark.parametrize("documents", [[], ["text", ""]])
def test_no_text_is_refused(model, documents):
    with pytest.raises(AuditError, match="no text"):
        oracle.lm_eval_perplexity(model, byte_tokenizer(), documents, 16)


def test_greedy_accuracy_is_the_share_of_first_choices(model):
    _, first_choices, tokens = by_hand(model, byte_tokenizer(), TEXT, 16)
    expected = (first_choices == torch.tensor(tokens)).double().mean()
    assert oracle.greedy_accuracy(model, byte_tokenizer(), TEXT, 16) == pytest.approx(float(expected))


class NextByte(torch.nn.Module):
    """Predicts for every byte the one that follows it in the alphabet."""

    def forward(self, tokens):
        return SimpleNamespace(logits=torch.nn.functional.one_hot(tokens + 1, 300).float())


@pytest.mark.parametrize(("text", "hits"), [("abcd", 3), ("aaaa", 0), ("abab", 2)])
@pytest.mark.parametrize("context", [2, 3, 16])
def test_hits_are_counted_in_every_window(text, hits, context):
    assert oracle.greedy_accuracy(NextByte(), byte_tokenizer(), text, context) == hits / 4


def test_a_tokenizer_without_bos_starts_from_its_end_token():
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = None
    assert oracle.greedy_accuracy(NextByte(), tokenizer, "bc", 16) == 0.5
