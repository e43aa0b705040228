"""Perplexity as lm-evaluation-harness measures it: the oracle is that package itself, run on a model in memory.

A task of output type ``loglikelihood_rolling`` is built in code over the given documents, so nothing is downloaded
and nothing is written. Word perplexity, byte perplexity and bits per byte are the package's own aggregates; it has
no token perplexity, so that one is derived from its log-likelihoods and its own token counts.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.errors import AuditError

TASK = "bitnet_audit_rolling"
"""Name of the task inside lm-eval; nothing outside this module reads it."""


@dataclass(frozen=True)
class OraclePerplexity:
    """What lm-eval says of one model on a set of documents (natural logarithms, documents in the order given).

    ``loglikelihoods`` has one sum over tokens per document, in nats; ``tokens`` the tokens predicted per document
    (the prefix token is context only); the perplexities are per token, per word and per UTF-8 byte.
    """

    loglikelihoods: tuple[float, ...]
    tokens: tuple[int, ...]
    token_perplexity: float
    word_perplexity: float
    byte_perplexity: float
    bits_per_byte: float


def lm_eval_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    context_length: int,
    batch_size: int = 1,
) -> OraclePerplexity:
    """Score ``documents`` with lm-eval's rolling log-likelihood and return its figures.

    The softmax is taken in the dtype of the logits, which is lm-eval's default: over a vocabulary of 49,000 a float32
    softmax is off by a few 1e-6 relative to a float64 one, and that is part of the definition that others reproduce.

    Windows are disjoint and at most ``context_length`` tokens long; the first one of each document starts from the
    tokenizer's prefix token (BOS, else EOS), as in lm-eval's ``HFLM.loglikelihood_rolling``.

    Raises AuditError for an empty list or an empty document: lm-eval itself would return a figure for zero tokens.
    """
    if not documents or not all(documents):
        raise AuditError("The perplexity oracle was given no text; pass at least one document and no empty one.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # lm-eval asks the hub for nothing here, and must not begin to
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        backend="causal",
        batch_size=batch_size,
        max_length=context_length,
        device=str(model.device),
    )
    output = evaluate(lm, {TASK: _task(documents)}, bootstrap_iters=0, log_samples=True)
    tokens = tuple(len(lm.tok_encode(document)) for document in documents)
    return _figures(output, tokens)


def _task(documents: Sequence[str]) -> Any:
    """One lm-eval task over ``documents``, held in memory."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    rows = datasets.Dataset.from_list([{"text": document} for document in documents])

    def text_of(row: Mapping[str, str]) -> str:
        # A function, not a template: a template engine would strip the white space at a document's end.
        return row["text"]

    return ConfigurableTask(
        config={
            "task": TASK,
            "custom_dataset": lambda **_: {"test": rows},
            "output_type": "loglikelihood_rolling",
            "test_split": "test",
            "doc_to_text": "",
            "doc_to_target": text_of,
            "metric_list": [
                {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
                {"metric": "byte_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
                {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False},
            ],
            "metadata": {"version": 1.0},
        }
    )


def _figures(output: Mapping[str, Any], tokens: tuple[int, ...]) -> OraclePerplexity:
    """Read lm-eval's result dictionary; per-document log-likelihoods come from its logged samples."""
    results = output["results"][TASK]
    samples = sorted(output["samples"][TASK], key=lambda sample: int(sample["doc_id"]))
    loglikelihoods = tuple(float(sample["filtered_resps"][0]) for sample in samples)
    return OraclePerplexity(
        loglikelihoods=loglikelihoods,
        tokens=tokens,
        token_perplexity=math.exp(-math.fsum(loglikelihoods) / sum(tokens)),
        word_perplexity=float(results["word_perplexity,none"]),
        byte_perplexity=float(results["byte_perplexity,none"]),
        bits_per_byte=float(results["bits_per_byte,none"]),
    )


def greedy_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, document: str, context_length: int
) -> float:
    """Share of a document's tokens that are the model's first choice, window by window, without batches or padding.

    The windows are lm-eval's own, cut by its functions; the counting is done here, since lm-eval has no such figure.
    """
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    tokens = tokenizer.encode(document)
    hits = 0
    for window in get_rolling_token_windows(tokens, prefix, context_length, context_len=1):
        context, continuation = make_disjoint_window(window)
        with torch.no_grad():
            logits = model(torch.tensor([context + continuation[:-1]])).logits[0]
        hits += int((logits[-len(continuation) :].argmax(-1) == torch.tensor(continuation)).sum())
    return hits / len(tokens)
