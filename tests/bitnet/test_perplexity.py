import copy
import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from bitnet.errors import BitnetError
from bitnet.perplexity import encode, perplexity, rolling_windows
from tests.bitnet.small_models import ARCHITECTURES, small_model, small_tokenizer

TEXTS = {
    "shorter than a window": "the cat",
    "several windows": "the cat sat on the mat and the dog sat on the log; " * 4,
    "unicode": "naïve 中文 🎉 ß\u2028two\r\n\tthe cat ",
    "leading BOS": "<s>the cat sat on the mat",
    "white space around": "  the cat  \n",
    "one character": "a",
}


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return small_model("llama")


def tokenizer_that_adds_bos() -> PreTrainedTokenizerBase:
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return tokenizer


def text_of(tokens: int) -> str:
    """A text that encodes to this many tokens: digits are never merged."""
    text = "1" * tokens
    assert len(encode(small_tokenizer(), text)) == tokens
    return text


@given(st.integers(1, 60), st.integers(1, 20))
def test_windows_predict_every_token_once_from_what_is_on_its_left(count: int, context_length: int):
    tokens = list(range(100, 100 + count))
    windows = rolling_windows(tokens, 7, context_length)
    assert [token for _, continuation in windows for token in continuation] == tokens
    for number, (context, continuation) in enumerate(windows):
        both = context + continuation
        assert len(both) - 1 <= context_length
        whole = [7, *tokens] if number == 0 else tokens
        assert both == whole[whole.index(both[0]) : whole.index(both[0]) + len(both)]
    last_context, last = windows[-1]
    assert len(last_context) + len(last) - 1 == min(context_length, count)


def test_windows_by_hand():
    assert rolling_windows([1, 2, 3, 4, 5], 0, 3) == [([0], [1, 2, 3]), ([2, 3], [4, 5])]
    assert rolling_windows([1, 2, 3], 0, 3) == [([0], [1, 2, 3])]
    assert rolling_windows([1, 2, 3, 4], 0, 3) == [([0], [1, 2, 3]), ([1, 2, 3], [4])]
    assert rolling_windows([], 0, 3) == []


def lm_eval_figures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], context: int, batch: int, folder: Path
) -> tuple[list[float], dict[str, float]]:
    """Log-likelihood per document and the aggregates, from lm-evaluation-harness on a local task."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    path = folder / "documents.json"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    metrics = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    task = ConfigurableTask(
        config={
            "task": "ours",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(folder)},
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": metric} for metric in metrics],
        }
    )
    subject = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), max_length=context, batch_size=batch)
    results = evaluate(lm=subject, task_dict={"ours": task}, bootstrap_iters=0)
    samples = sorted(results["samples"]["ours"], key=lambda sample: sample["doc_id"])
    likelihoods = [float(sample["filtered_resps"][0]) for sample in samples]
    return likelihoods, {metric: results["results"]["ours"][f"{metric},none"] for metric in metrics}


@pytest.mark.parametrize(("context_length", "batch_size"), [(16, 1), (16, 4), (29, 1), (29, 4)])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_agreement_with_lm_eval(
    model: PreTrainedModel, tmp_path: Path, context_length: int, batch_size: int, adds_bos: bool
):
    tokenizer = tokenizer_that_adds_bos() if adds_bos else small_tokenizer()
    # The last three fill a window exactly (with or without BOS), or are longer by one or two tokens.
    texts = [*TEXTS.values(), *(text_of(context_length + extra) for extra in (-1, 0, 1))]
    ours = perplexity(model, tokenizer, texts, context_length, batch_size)
    likelihoods, figures = lm_eval_figures(model, tokenizer, texts, context_length, batch_size, tmp_path)
    assert [document.loglikelihood for document in ours.documents] == pytest.approx(likelihoods, rel=1e-6)
    for metric, figure in figures.items():
        assert getattr(ours, metric) == pytest.approx(figure, rel=1e-6), metric


@torch.no_grad()
def one_by_one(model: PreTrainedModel, tokens: list[int], context_length: int) -> tuple[float, int]:
    """Log-likelihood and right predictions, one forward pass a token, in float64 from the logits on."""
    total, correct = 0.0, 0
    for position, target in enumerate(tokens):
        start = position - position % context_length
        if start == 0:
            seen = [0, *tokens[:position]]
        else:
            end = min(start + context_length, len(tokens))
            seen = tokens[end - context_length - 1 : position]
        logits = model(torch.tensor([seen])).logits[0, -1].double()
        total += (logits[target] - logits.logsumexp(0)).item()
        correct += int(logits.argmax() == target)
    return total, correct


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_agreement_with_one_token_at_a_time(architecture: str):
    text = TEXTS["several windows"]
    model = small_model(architecture)
    result = perplexity(model, small_tokenizer(), [text], 24)
    tokens = encode(small_tokenizer(), text)
    loglikelihood, correct = one_by_one(model, tokens, 24)
    assert result.loglikelihood == pytest.approx(loglikelihood, rel=1e-6)
    assert result.next_token_accuracy == correct / len(tokens)


def test_figures_by_hand(model: PreTrainedModel):
    texts = ["the cat sat", " größe 1"]
    result = perplexity(model, small_tokenizer(), texts, 16)
    total = sum(document.loglikelihood for document in result.documents)
    assert [document.words for document in result.documents] == [3, 3]
    assert [document.bytes for document in result.documents] == [11, 10]
    assert result.tokens == sum(len(encode(small_tokenizer(), text)) for text in texts)
    assert result.token_perplexity == pytest.approx(math.exp(-total / result.tokens))
    assert result.word_perplexity == pytest.approx(math.exp(-total / 6))
    assert result.byte_perplexity == pytest.approx(math.exp(-total / 21))
    assert result.bits_per_byte == pytest.approx(math.log2(result.byte_perplexity))


class Repeats(nn.Module):
    """Predicts that every token comes again, with logit `confidence` against 0 for each of the others."""

    def __init__(self, confidence: float, vocabulary: int = 288):
        super().__init__()
        self.confidence = nn.Parameter(torch.tensor(confidence))
        self.vocabulary = vocabulary

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> CausalLMOutput:
        return CausalLMOutput(logits=self.confidence * nn.functional.one_hot(input_ids, self.vocabulary))


def test_a_model_of_known_probabilities():
    result = perplexity(Repeats(2.0), small_tokenizer(), ["1112"], 16)
    normalizer = math.log(math.exp(2.0) + 287)
    assert result.loglikelihood == pytest.approx(2 * (2.0 - normalizer) - 2 * normalizer)
    assert result.next_token_accuracy == 0.5  # the first token follows BOS, the last one is new
    assert perplexity(Repeats(0.0), small_tokenizer(), ["1112"], 16).token_perplexity == pytest.approx(288)


def test_a_perplexity_too_large_for_a_float_is_infinite_and_null_in_json():
    result = perplexity(Repeats(2000.0), small_tokenizer(), ["12"], 16)
    assert result.token_perplexity == math.inf
    figures = result.as_dict()
    assert figures["token_perplexity"] is None
    assert figures["loglikelihood"] == result.loglikelihood
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_the_figures_do_not_depend_on_batching_or_order(model: PreTrainedModel):
    texts = list(TEXTS.values())
    whole = perplexity(model, small_tokenizer(), texts, 20, batch_size=1)
    for batch_size in (2, 3, 64):
        batched = perplexity(model, small_tokenizer(), texts, 20, batch_size)
        assert batched.loglikelihood == pytest.approx(whole.loglikelihood, rel=1e-6)
        assert batched.next_token_accuracy == whole.next_token_accuracy
    backwards = perplexity(model, small_tokenizer(), texts[::-1], 20, batch_size=1)
    assert backwards.documents == whole.documents[::-1]
    assert backwards.as_dict()["loglikelihood"] == whole.as_dict()["loglikelihood"]


@settings(max_examples=20)
@given(st.integers(1, 80))
def test_a_limit_scores_the_beginning_of_the_text(limit: int):
    model, texts = Repeats(1.0), ["the cat sat on the mat " * 2, "12 größe 中文", "the dog"]
    result = perplexity(model, small_tokenizer(), texts, 16, max_tokens=limit)
    everything = sum(len(encode(small_tokenizer(), text)) for text in texts)
    assert min(limit, everything) - 3 <= result.tokens <= limit  # a character has up to three tokens here
    kept = [text.encode()[: document.bytes].decode() for text, document in zip(texts, result.documents, strict=False)]
    assert result == perplexity(model, small_tokenizer(), kept, 16)
    assert kept[:-1] == texts[: len(kept) - 1]


def test_a_limit_beyond_the_text_changes_nothing(model: PreTrainedModel):
    texts = list(TEXTS.values())
    limited = perplexity(model, small_tokenizer(), texts, 16, max_tokens=100_000)
    assert limited == perplexity(model, small_tokenizer(), texts, 16)


def test_a_limit_below_the_first_character(model: PreTrainedModel):
    with pytest.raises(BitnetError, match="Not one character of the text fits into 2 tokens"):
        perplexity(model, small_tokenizer(), ["中文"], 16, max_tokens=2)


def test_progress_and_mode(model: PreTrainedModel):
    seen: list[tuple[int, int]] = []
    model.train()
    perplexity(model, small_tokenizer(), ["1" * 40], 16, 2, progress=lambda *counts: seen.append(counts))
    assert seen == [(2, 3), (3, 3)]
    assert model.training
    model.eval()
    perplexity(model, small_tokenizer(), ["1"], 16)
    assert not model.training


def test_a_half_precision_model_is_scored_in_float32(model: PreTrainedModel):
    half = copy.deepcopy(model).to(torch.bfloat16)
    text = TEXTS["several windows"]
    full, rounded = (perplexity(m, small_tokenizer(), [text], 32).loglikelihood for m in (model, half))
    assert rounded == pytest.approx(full, rel=0.02)
    digits = encode(small_tokenizer(), text_of(20))
    with torch.no_grad():
        logprobs = half(torch.tensor([[0, *digits[:-1]]])).logits[0].float().log_softmax(-1)
    expected = math.fsum(logprobs[range(20), digits].tolist())
    assert perplexity(half, small_tokenizer(), [text_of(20)], 32).loglikelihood == pytest.approx(expected, rel=1e-6)


def test_a_tokenizer_without_bos_starts_from_eos(model: PreTrainedModel):
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.bos_token = None
    windows = rolling_windows(encode(tokenizer, "1"), tokenizer.eos_token_id, 16)
    with torch.no_grad():
        logits = model(torch.tensor([windows[0][0]])).logits[0, -1]
    expected = logits.log_softmax(0)[windows[0][1][0]].item()
    assert perplexity(model, tokenizer, ["1"], 16).loglikelihood == pytest.approx(expected, rel=1e-6)
    tokenizer.eos_token = None
    with pytest.raises(BitnetError, match="neither a BOS nor an EOS token"):
        perplexity(model, tokenizer, ["1"], 16)


def test_what_cannot_be_scored_is_told_in_a_sentence(model: PreTrainedModel):
    tokenizer = small_tokenizer()
    for documents in ([], "the cat"):
        with pytest.raises(BitnetError, match="There is no document to score"):
            perplexity(model, tokenizer, documents, 16)
    with pytest.raises(BitnetError, match="Document 2 of 2 is empty"):
        perplexity(model, tokenizer, ["a", ""], 16)
    with pytest.raises(BitnetError, match="context_length is 0"):
        perplexity(model, tokenizer, ["a"], 0)
    with pytest.raises(BitnetError, match="batch_size is 0"):
        perplexity(model, tokenizer, ["a"], 16, 0)
    with pytest.raises(BitnetError, match="max_tokens is -1"):
        perplexity(model, tokenizer, ["a"], 16, max_tokens=-1)
    with pytest.raises(BitnetError, match="context_length is 129, but the model has 128 positions"):
        perplexity(model, tokenizer, ["a"], 129)


def test_a_text_that_the_tokenizer_drops_altogether(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch):
    tokenizer = copy.deepcopy(small_tokenizer())
    monkeypatch.setattr(type(tokenizer), "encode", lambda self, text, **options: [5] * len(text.strip()))
    with pytest.raises(BitnetError, match="Document 2 of 2 has no token"):
        perplexity(model, tokenizer, ["a", " "], 16)


def test_a_tokenizer_of_another_model():
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.add_tokens([f"<extra {number}>" for number in range(20)])
    with pytest.raises(BitnetError, match="The tokenizer gives token 297, but the model knows 288"):
        perplexity(small_model("llama"), tokenizer, ["the <extra 19>"], 16)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_and_the_mode_comes_back(poison: float):
    model = small_model("llama").train()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = poison
    with pytest.raises(BitnetError, match="NaN or infinite"):
        perplexity(model, small_tokenizer(), ["the cat"], 16)
    assert model.training


def test_the_standard_error_is_that_of_a_ratio_over_windows(model: PreTrainedModel):
    """Each window's own sum is what scoring one window more adds."""
    text, length = "9015739284651029387465" * 2, 8  # digits are never merged, so every cut is where it is asked for
    tokenizer = small_tokenizer()
    whole = perplexity(model, tokenizer, [text], length)
    parts = [
        perplexity(model, tokenizer, [text], length, max_tokens=end) for end in range(length, whole.tokens, length)
    ]
    cuts = [(0.0, 0), *((part.loglikelihood, part.tokens) for part in (*parts, whole))]
    sums = torch.tensor([after[0] - before[0] for before, after in itertools.pairwise(cuts)], dtype=torch.float64)
    tokens = torch.tensor([float(after[1] - before[1]) for before, after in itertools.pairwise(cuts)])
    residual = sums - sums.sum() / tokens.sum() * tokens
    expected = (len(sums) * residual.var()).sqrt() / tokens.sum()
    assert whole.standard_error == pytest.approx(float(expected), rel=1e-6)
    assert whole.as_dict()["standard_error"] == whole.standard_error


def test_one_window_has_no_standard_error(model: PreTrainedModel):
    assert perplexity(model, small_tokenizer(), ["the cat"], 32).standard_error is None
