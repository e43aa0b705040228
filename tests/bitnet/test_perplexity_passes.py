"""The passes that perplexity makes, what it takes at the edges of what is allowed, and the figures that it tells."""

import copy
import logging
import math

import pytest
import torch
from tokenizers import Tokenizer, models, processors
from torch import nn
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutput

from bitnet.errors import BitnetError
from bitnet.perplexity import DocumentScore, PerplexityResult, encode, perplexity
from tests.bitnet.small_models import VOCABULARY, small_model, small_tokenizer


class Watched(nn.Module):
    """Finds every token equally likely, and notes what it is asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.shapes: list[tuple[int, ...]] = []
        self.caches: list[bool] = []

    def forward(self, input_ids: torch.Tensor, use_cache: bool = True) -> CausalLMOutput:
        self.shapes.append(tuple(input_ids.shape))
        self.caches.append(use_cache)
        return CausalLMOutput(logits=torch.zeros(*input_ids.shape, VOCABULARY))


def test_long_windows_go_first_four_at_a_time_and_nothing_is_cached():
    model, seen = Watched(), []
    texts = ["1", "1" * 9, "11", "1" * 5, "1" * 7, "111"]
    perplexity(model, small_tokenizer(), texts, 8, progress=lambda *counts: seen.append(counts))
    assert model.shapes == [(4, 8), (3, 3)]
    assert model.caches == [False, False]
    assert seen == [(4, 7), (7, 7)]


def test_as_few_as_one_token_and_as_many_as_the_model_has_positions():
    model = small_model("llama")
    assert perplexity(model, small_tokenizer(), ["123"], 1).tokens == 3
    assert perplexity(model, small_tokenizer(), ["1" * 128], 128).tokens == 128
    assert perplexity(model, small_tokenizer(), ["123"], 16, max_tokens=1).tokens == 1


def test_a_limit_reaches_into_words_that_are_merged():
    text = "the cat sat on the mat"
    result = perplexity(Watched(), small_tokenizer(), [text], 16, max_tokens=3)
    assert (result.bytes, result.tokens) == (len("the cat sat"), 3)


def test_a_limit_cuts_before_a_character_that_does_not_fit_though_it_might_merge_with_others():
    vocabulary = {"<s>": 0, "a": 1, "b": 2, "c": 3, "bc": 4, "abc": 5}
    merging = Tokenizer(models.BPE(vocabulary, [("b", "c"), ("a", "bc")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, bos_token="<s>")
    assert [len(encode(tokenizer, text)) for text in ("a", "ab", "abc")] == [1, 2, 1]
    assert perplexity(Watched(), tokenizer, ["abc"], 16, max_tokens=1).bytes == 1
    assert perplexity(Watched(), tokenizer, ["abc"], 16, max_tokens=2).bytes == 3


def test_a_limit_that_the_special_tokens_alone_exceed():
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert perplexity(Watched(), tokenizer, ["123"], 16, max_tokens=3).bytes == 1
    with pytest.raises(BitnetError, match="Not one character of the text fits into 1 tokens"):
        perplexity(Watched(), tokenizer, ["123"], 16, max_tokens=1)


def test_the_first_token_that_the_model_does_not_know():
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.add_tokens([f"<extra {number}>" for number in range(VOCABULARY - len(tokenizer) + 1)])
    last = f"<extra {VOCABULARY - len(small_tokenizer())}>"
    assert encode(tokenizer, last) == [VOCABULARY]
    with pytest.raises(BitnetError, match="The tokenizer gives token 288, but the model knows 288"):
        perplexity(small_model("llama"), tokenizer, [last], 16)


def test_a_document_longer_than_the_tokenizer_expects_is_no_cause_for_a_warning(caplog: pytest.LogCaptureFixture):
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.model_max_length = 4
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        encode(tokenizer, "1" * 8)
        assert not caplog.records
        tokenizer.encode("1" * 8)
        assert "longer than the specified maximum" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


def test_two_windows_have_a_standard_error():
    """Of two windows of one token each with losses 1 and 3: the mean is 2, and its error 1."""

    class Known(Watched):
        def forward(self, input_ids: torch.Tensor, use_cache: bool = True) -> CausalLMOutput:
            logits = torch.full((*input_ids.shape, VOCABULARY), -math.inf)
            logits[..., 5] = torch.log1p(-torch.exp(torch.tensor([-1.0, -3.0]))).reshape(2, 1)
            for row, loss in enumerate((-1.0, -3.0)):
                logits[row, :, ids[row]] = loss
            return CausalLMOutput(logits=logits)

    ids = [encode(small_tokenizer(), digit)[0] for digit in "12"]
    assert 5 not in ids
    result = perplexity(Known(), small_tokenizer(), ["1", "2"], 16)
    assert result.loglikelihood == pytest.approx(-4.0)
    assert result.standard_error == pytest.approx(1.0)


def test_all_figures_have_their_names():
    documents = (DocumentScore(-4.0, tokens=2, words=1, bytes=5, correct_tokens=1), DocumentScore(-2.0, 2, 2, 3, 2))
    result = PerplexityResult(documents)
    assert result.standard_error is None
    assert result.as_dict() == {
        "tokens": 4,
        "words": 3,
        "bytes": 8,
        "loglikelihood": -6.0,
        "token_perplexity": pytest.approx(math.exp(1.5)),
        "word_perplexity": pytest.approx(math.exp(2.0)),
        "byte_perplexity": pytest.approx(math.exp(0.75)),
        "bits_per_byte": pytest.approx(0.75 / math.log(2)),
        "next_token_accuracy": 0.75,
        "standard_error": None,
        "documents": [
            {"loglikelihood": -4.0, "tokens": 2, "words": 1, "bytes": 5, "correct_tokens": 1},
            {"loglikelihood": -2.0, "tokens": 2, "words": 2, "bytes": 3, "correct_tokens": 2},
        ],
    }
