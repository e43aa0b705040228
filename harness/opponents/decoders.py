"""Arms that continue a text: the subject's decoder, and a model in transformers.

Each does two things: `greedy` continues a prompt with the likeliest token, so many times, and `prefill` reads a prompt.
Both start a new sequence. `logits` is what they are compared by before they are timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from harness.subject import PackedDecoder, StepsGreedily

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor


class TextArm(Protocol):
    """Something that continues texts."""

    @property
    def name(self) -> str:
        """As it stands in tables."""
        ...

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The likeliest token, `count` times over, each after those before it."""
        ...

    def prefill(self, prompt: Sequence[int]) -> object:
        """Read a prompt and find the logits behind its last token."""
        ...

    def logits(self, tokens: Sequence[int]) -> Float32[Tensor, "length vocabulary"]:
        """The logits behind each token of a new sequence, in one pass."""
        ...


@dataclass(frozen=True)
class SubjectArm:
    """A subject's own decoder."""

    decoder: PackedDecoder
    name: str = "subject"

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """As `TextArm.greedy`; a decoder that finds the likeliest token itself is let do so."""
        self.decoder.reset()
        chosen = [self._next(prompt)]
        while len(chosen) < count:
            chosen.append(self._next(chosen[-1:]))
        return chosen

    def _next(self, tokens: Sequence[int]) -> int:
        if isinstance(self.decoder, StepsGreedily):
            return self.decoder.next(tokens)
        return int(self.decoder.forward(tokens).argmax())

    def prefill(self, prompt: Sequence[int]) -> object:
        """As `TextArm.prefill`."""
        self.decoder.reset()
        return self.decoder.forward(prompt)

    def logits(self, tokens: Sequence[int]) -> Float32[Tensor, "length vocabulary"]:
        """As `TextArm.logits`."""
        self.decoder.reset()
        return self.decoder.logits(tokens)


@dataclass(frozen=True)
class TransformersArm:
    """A model called token by token with a key/value cache: faster than `generate`, which does more besides."""

    model: Any
    name: str

    @torch.no_grad()
    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """As `TextArm.greedy`."""
        tokens, cache, chosen = torch.tensor([list(prompt)]), None, []
        for _ in range(count):
            output = self.model(input_ids=tokens, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            tokens = output.logits[:, -1:].argmax(-1)
            chosen.append(int(tokens))
        return chosen

    @torch.no_grad()
    def prefill(self, prompt: Sequence[int]) -> object:
        """As `TextArm.prefill`."""
        return self.model(input_ids=torch.tensor([list(prompt)]), logits_to_keep=1)

    @torch.no_grad()
    def logits(self, tokens: Sequence[int]) -> Float32[Tensor, "length vocabulary"]:
        """As `TextArm.logits`."""
        logits: Tensor = self.model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits
        return logits[0].float()


@dataclass(frozen=True)
class GenerateArm(TransformersArm):
    """A model through its own `generate`, as its users call it."""

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """As `TextArm.greedy`."""
        from transformers import GenerationConfig

        ids = torch.tensor([list(prompt)])
        # No token may end the text: every arm makes as many.
        settings = GenerationConfig(max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)
        made: Tensor = self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return [int(token) for token in made[0, len(prompt) :]]
