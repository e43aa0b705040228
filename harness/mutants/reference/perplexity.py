"""Subjects that measure perplexity by a stated definition: the right one, or one of those that real code got wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from harness.subject import Declaration, PerplexityFigures

Windows = list[tuple[list[int], list[int]]]


@dataclass(frozen=True)
class PerplexitySubject:
    """Measures rolling perplexity, with at most one ``defect``; "" is the right definition."""

    defect: str = ""

    @property
    def declaration(self) -> Declaration:
        """What the suites hold it to."""
        return Declaration(name=f"perplexity {self.defect or 'as defined'}", version="1")

    def perplexity(
        self, model: Any, tokenizer: Any, documents: Sequence[str], context_length: int, batch_size: int
    ) -> PerplexityFigures:
        """See `harness.subject.MeasuresPerplexity`."""
        if self.defect != "empty text scores" and (not documents or not all(documents)):
            raise ValueError("no text")
        if self.defect == "documents sorted by length":
            documents = sorted(documents, key=len)
        windows = [self._windows(tokenizer.encode(text), tokenizer.bos_token_id, context_length) for text in documents]
        if self.defect == "context carried over from the document before":
            windows = [
                [(before[-1][1][:-1] + cut[0][0], cut[0][1]), *cut[1:]] if before else cut
                for before, cut in pairwise([[], *windows])
            ]
        scores = [[self._score(model, window, batch_size) for window in cut] for cut in windows]
        return self._figures(documents, windows, scores)

    def _windows(self, tokens: list[int], prefix: int, length: int) -> Windows:
        if self.defect == "no BOS on the first window":
            prefix, tokens = tokens[0], tokens[1:]
        cut: Windows = []
        for start in range(0, len(tokens), length):
            end = min(start + length, len(tokens))
            context = [prefix] if start == 0 else tokens[end - length - 1 : start]
            if self.defect == "no left context for the last window" and start:
                context = tokens[start - 1 : start]
            cut.append((context, tokens[start:end]))
        return cut

    def _score(self, model: Any, window: tuple[list[int], list[int]], batch_size: int) -> tuple[float, int]:
        context, continuation = window
        inputs = (context + continuation)[:-1]
        padding = 7 if self.defect == "padding on the left unmasked" and batch_size > 1 else 0
        with torch.no_grad():
            logits = model(torch.tensor([[0] * padding + inputs])).logits[0, -len(continuation) :]
        target = torch.tensor(continuation)
        shift = 1 if self.defect == "accuracy shifted by one" else 0
        hits = int((logits.argmax(-1)[: len(target) - shift] == target[shift:]).sum())
        likelihoods = torch.log_softmax(logits, -1).gather(-1, target[:, None])
        return float(likelihoods.sum()), hits  # in float32, as lm-eval sums a window

    def _figures(
        self, documents: Sequence[str], windows: list[Windows], scores: list[list[tuple[float, int]]]
    ) -> PerplexityFigures:
        each = tuple(math.fsum(value for value, _ in parts) for parts in scores)
        counts = [sum(len(continuation) for _, continuation in cut) for cut in windows]
        total, tokens = math.fsum(each), sum(counts)
        words = sum(
            len(text.split() if self.defect == "words by split" else re.split(r"\s+", text)) for text in documents
        )
        size = sum(len(text if self.defect == "characters for bytes" else text.encode()) for text in documents)
        bits = -total / max(size, 1) / (1.0 if self.defect == "nats for bits" else math.log(2))
        return PerplexityFigures(
            tokens=tokens,
            words=words,
            bytes=size,
            loglikelihoods=each,
            token_perplexity=self._token_perplexity(windows, scores, counts),
            word_perplexity=math.exp(-total / max(words, 1)),
            byte_perplexity=math.exp(-total / max(size, 1)),
            bits_per_byte=bits,
            next_token_accuracy=sum(hits for parts in scores for _, hits in parts) / max(tokens, 1),
        )

    def _token_perplexity(
        self, windows: list[Windows], scores: list[list[tuple[float, int]]], counts: list[int]
    ) -> float:
        if self.defect == "mean of window means":
            means = [
                value / len(continuation)
                for cut, parts in zip(windows, scores, strict=True)
                for (_, continuation), (value, _) in zip(cut, parts, strict=True)
            ]
            return math.exp(-sum(means) / len(means))
        if self.defect == "mean of document means":
            sums = [sum(value for value, _ in parts) for parts in scores]
            return math.exp(-sum(value / count for value, count in zip(sums, counts, strict=True)) / len(sums))
        total = math.fsum(value for parts in scores for value, _ in parts)
        divisor = sum(counts) - (len(counts) if self.defect == "N-1 for N" else 0)
        return math.exp(-total / divisor) if divisor else 1.0
