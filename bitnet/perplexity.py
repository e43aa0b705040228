"""Perplexity on rolling windows, by the definition of lm-evaluation-harness (`loglikelihood_rolling`).

Every token of a document is predicted exactly once. The first window starts from the prefix token (BOS, else EOS);
windows are disjoint; the last one, shorter than the others, is filled up with context on its left. Log-probabilities
are summed over the tokens of all documents before anything is divided: means of means would weigh short windows and
short documents as much as long ones.
"""

import bisect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from bitnet.errors import BitnetError

Window = tuple[list[int], list[int]]
"""Token ids of (context, continuation): the continuation is scored, given all that is left of each of its tokens."""


@dataclass(frozen=True)
class DocumentScore:
    """One document: the sum of its tokens' log-probabilities (nats) and what that sum may be divided by."""

    loglikelihood: float
    tokens: int
    words: int
    bytes: int
    correct_tokens: int


@dataclass(frozen=True)
class PerplexityResult:
    """Figures over all documents together; a perplexity too large for a float is `math.inf`.

    `standard_error` is that of the mean loss of a token, in nats, by how much it differs between the windows, which are
    taken for independent draws; None for a single window.
    """

    documents: tuple[DocumentScore, ...]
    standard_error: float | None = None

    @property
    def loglikelihood(self) -> float:
        """Summed over all tokens, in nats; exactly the same for every order of the documents."""
        return math.fsum(document.loglikelihood for document in self.documents)

    @property
    def tokens(self) -> int:
        """Predicted tokens, which are all tokens of the documents."""
        return sum(document.tokens for document in self.documents)

    @property
    def words(self) -> int:
        """Pieces between white space in the original text."""
        return sum(document.words for document in self.documents)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the original text."""
        return sum(document.bytes for document in self.documents)

    @property
    def token_perplexity(self) -> float:
        """exp(-loglikelihood / tokens)."""
        return _exp(-self.loglikelihood / self.tokens)

    @property
    def word_perplexity(self) -> float:
        """exp(-loglikelihood / words)."""
        return _exp(-self.loglikelihood / self.words)

    @property
    def byte_perplexity(self) -> float:
        """exp(-loglikelihood / bytes)."""
        return _exp(-self.loglikelihood / self.bytes)

    @property
    def bits_per_byte(self) -> float:
        """-loglikelihood / (bytes ln 2)."""
        return -self.loglikelihood / self.bytes / math.log(2)

    @property
    def next_token_accuracy(self) -> float:
        """Share of the predicted tokens to which the model gives the highest probability of all."""
        return sum(document.correct_tokens for document in self.documents) / self.tokens

    def as_dict(self) -> dict[str, Any]:
        """The figures and the documents as JSON can hold them: an infinite perplexity becomes None."""
        figures = {
            "tokens": self.tokens,
            "words": self.words,
            "bytes": self.bytes,
            "loglikelihood": self.loglikelihood,
            "token_perplexity": self.token_perplexity,
            "word_perplexity": self.word_perplexity,
            "byte_perplexity": self.byte_perplexity,
            "bits_per_byte": self.bits_per_byte,
            "next_token_accuracy": self.next_token_accuracy,
            "standard_error": math.nan if self.standard_error is None else self.standard_error,
        }
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        return {**finite, "documents": [asdict(document) for document in self.documents]}


def perplexity(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    context_length: int,
    batch_size: int = 4,
    max_tokens: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PerplexityResult:
    """Scores `documents` with a causal language model in windows of `context_length` input tokens.

    With `max_tokens`, documents are taken in order until that many tokens; the one that would go beyond is cut before
    a character that does not fit, so that the result is that of the shorter text. `progress` is called with the
    windows done and the windows in all. The model is in evaluation mode meanwhile and gets its own mode back.

    Raises `BitnetError` for no documents, an empty document, a tokenizer without BOS and EOS or with more tokens than
    the model, a context longer than the model has positions for, and logits that are not finite.
    """
    _check_request(model, documents, context_length, batch_size, max_tokens)
    if max_tokens is not None:
        documents = _capped(tokenizer, documents, max_tokens)
    prefix = prefix_token(tokenizer)
    encoded = [encode(tokenizer, document) for document in documents]
    _check_tokens(model, encoded)
    windows = [
        (index, window)
        for index, tokens in enumerate(encoded)
        for window in rolling_windows(tokens, prefix, context_length)
    ]
    # Longest first: least padding in a batch, and memory runs out at the start or not at all.
    windows.sort(key=lambda item: -_length(item[1]))
    scores: list[list[tuple[float, int]]] = [[] for _ in documents]
    sums: list[tuple[float, int]] = []
    training = model.training
    model.eval()
    try:
        for start in range(0, len(windows), batch_size):
            batch = windows[start : start + batch_size]
            for (index, window), score in zip(batch, _score(model, [window for _, window in batch]), strict=True):
                scores[index].append(score)
                sums.append((score[0], len(window[1])))
            if progress is not None:
                progress(start + len(batch), len(windows))
    finally:
        model.train(training)
    return PerplexityResult(
        tuple(_document(text, len(ids), parts) for text, ids, parts in zip(documents, encoded, scores, strict=True)),
        _standard_error(sums),
    )


def rolling_windows(tokens: Sequence[int], prefix_token: int, context_length: int) -> list[Window]:
    """Cuts `tokens` into windows whose continuations are disjoint and cover every token once.

    No window has more than `context_length` input tokens (context + continuation - 1). No tokens give no windows.
    """
    ids = list(tokens)
    windows: list[Window] = []
    for start in range(0, len(ids), context_length):
        end = min(start + context_length, len(ids))
        context = [prefix_token] if start == 0 else ids[end - context_length - 1 : start]
        windows.append((context, ids[start:end]))
    return windows


def prefix_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the first window starts from: BOS, or EOS for a tokenizer without one."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise BitnetError("The tokenizer has neither a BOS nor an EOS token to start from: give it a bos_token.")


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids with the tokenizer's own special tokens, as lm-evaluation-harness encodes a document.

    A tokenizer that puts BOS in front does so here too (BOS is then predicted from the prefix token), unless the text
    itself begins with the prefix token.
    """
    starts_itself = text.startswith(tokenizer.decode([prefix_token(tokenizer)]))
    return list(tokenizer.encode(text, add_special_tokens=not starts_itself, verbose=False))


@torch.no_grad()
def _score(model: nn.Module, windows: Sequence[Window]) -> Iterator[tuple[float, int]]:
    """(log-likelihood, tokens predicted rightly) of each window's continuation; one forward pass for all of them."""
    longest = max(_length(window) for window in windows)
    device = next(model.parameters()).device
    # Padding stands on the right, where causal attention does not see it: neither a mask nor a pad token is needed.
    ids: Int64[Tensor, "batch input"] = torch.zeros(len(windows), longest, dtype=torch.int64)
    for row, (context, continuation) in enumerate(windows):
        inputs = (context + continuation)[:-1]
        ids[row, : len(inputs)] = torch.tensor(inputs)
    logits: Float[Tensor, "batch input vocabulary"] = model(input_ids=ids.to(device), use_cache=False).logits
    for row, window in enumerate(windows):
        end, scored = _length(window), len(window[1])
        targets = torch.tensor(window[1], device=device)
        yield _score_continuation(logits[row, end - scored : end], targets)


def _score_continuation(
    logits: Float[Tensor, "tokens vocabulary"], targets: Int64[Tensor, "tokens"]
) -> tuple[float, int]:
    """(sum of log softmax at the targets, number of targets that are the argmax); float32 logits, float64 sum."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    loglikelihood = logprobs.gather(-1, targets[:, None]).double().sum().item()
    if not math.isfinite(loglikelihood):
        raise BitnetError("The model's logits are NaN or infinite: check its weights, or use a wider dtype.")
    return loglikelihood, int((logits.argmax(dim=-1) == targets).sum())


def _length(window: Window) -> int:
    """Input tokens: the last token of the continuation is predicted, never read."""
    return len(window[0]) + len(window[1]) - 1


def _document(text: str, tokens: int, parts: Sequence[tuple[float, int]]) -> DocumentScore:
    return DocumentScore(
        loglikelihood=math.fsum(loglikelihood for loglikelihood, _ in parts),
        tokens=tokens,
        words=len(re.split(r"\s+", text)),
        bytes=len(text.encode("utf-8")),
        correct_tokens=sum(correct for _, correct in parts),
    )


def _standard_error(windows: Sequence[tuple[float, int]]) -> float | None:
    """Of sum(loglikelihoods) / sum(tokens), a ratio of two sums over windows (Cochran 1977, section 2.11)."""
    count, tokens = len(windows), sum(length for _, length in windows)
    if count < 2:
        return None
    mean = math.fsum(loglikelihood for loglikelihood, _ in windows) / tokens
    squares = math.fsum((loglikelihood - mean * length) ** 2 for loglikelihood, length in windows)
    return math.sqrt(squares * count / (count - 1)) / tokens


def _capped(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], max_tokens: int) -> list[str]:
    """The documents' beginning that encodes to at most `max_tokens` tokens."""
    kept: list[str] = []
    left = max_tokens
    for document in documents:
        beginning = _shortened(tokenizer, document, left)
        if beginning:
            kept.append(beginning)
            left -= len(encode(tokenizer, beginning))
        if beginning != document:
            break
    if not kept:
        raise BitnetError(f"Not one character of the text fits into {max_tokens} tokens: raise the limit.")
    return kept


def _shortened(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int) -> str:
    """A beginning of at most `max_tokens` tokens that has more with the next character (several may merge)."""

    def tokens(characters: int) -> int:
        return len(encode(tokenizer, text[:characters])) if characters else 0

    # Doubling before bisecting spares encoding a long text many times over for its first few tokens.
    limit = max_tokens + 1
    while limit < len(text) and tokens(limit) <= max_tokens:
        limit *= 2
    lengths = range(min(limit, len(text)) + 1)
    return text[: bisect.bisect_right(lengths, max_tokens, key=tokens) - 1]


def _check_request(
    model: nn.Module, documents: Sequence[str], context_length: int, batch_size: int, max_tokens: int | None
) -> None:
    if isinstance(documents, str) or not documents:
        raise BitnetError("There is no document to score: give a list of at least one text.")
    for number, document in enumerate(documents, start=1):
        if not document:
            raise BitnetError(f"Document {number} of {len(documents)} is empty: leave it out or give it some text.")
    for name, value in (("context_length", context_length), ("batch_size", batch_size), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            raise BitnetError(f"{name} is {value}: it must be at least 1.")
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if positions is not None and context_length > positions:
        raise BitnetError(f"context_length is {context_length}, but the model has {positions} positions: lower it.")


def _check_tokens(model: nn.Module, encoded: Sequence[Sequence[int]]) -> None:
    for number, tokens in enumerate(encoded, start=1):
        if not tokens:
            raise BitnetError(f"Document {number} of {len(encoded)} has no token: leave it out or give it some text.")
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    highest = max(max(tokens) for tokens in encoded)
    if size is not None and highest >= size:
        raise BitnetError(
            f"The tokenizer gives token {highest}, but the model knows {size}: use the model's tokenizer."
        )


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
