"""What continues a text: the native runtime where it has all that a model asks for, else transformers."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from bitnet.errors import BitnetError, first_line
from bitnet.kernels.backends import TORCH
from bitnet.packed_manifest import is_packed
from bitnet.runtime import Runtime, UnsupportedError


class Engine(Protocol):
    """A model that is open for generation, and its tokenizer."""

    @property
    def name(self) -> str:
        """What runs, in words for people."""

    def encode(self, prompt: str, chat: bool = False) -> list[int]:
        """Tokens of a prompt; of the question in the model's chat template where it is a `chat`.

        Raises:
            BitnetError: a model without template.
        """

    def tokens(
        self, prompt: Sequence[int], max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[int]:
        """The continuation token by token, see `bitnet.generation.next_tokens`, which also tells what is refused."""

    def text(self, prompt: Sequence[int], tokens: Iterator[int]) -> Iterator[str]:
        """The text of tokens that follow `prompt`, piece by piece, in whole characters."""


class RuntimeEngine:
    """The native runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        threads = "1 thread" if runtime.threads == 1 else f"{runtime.threads} threads"
        self.name = f"native runtime ({runtime.backend}, {threads})"
        self._tokenizer = runtime.tokenizer

    def encode(self, prompt: str, chat: bool = False) -> list[int]:
        """As `Engine.encode`."""
        if chat:
            from bitnet.artifacts import load_tokenizer

            prompt = _in_template(load_tokenizer(self.runtime.folder), prompt, self.runtime.folder)
        return list(self._tokenizer.encode(prompt, add_special_tokens=not chat).ids)

    def tokens(
        self, prompt: Sequence[int], max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[int]:
        """As `Engine.tokens`."""
        return self.runtime.tokens(prompt, max_new_tokens, temperature, seed)

    def text(self, prompt: Sequence[int], tokens: Iterator[int]) -> Iterator[str]:
        """As `Engine.text`."""
        return self.runtime.text(prompt, tokens)


class TransformersEngine:
    """transformers; a packed model with its layers as `TernaryLinear`."""

    def __init__(self, source: str, reason: str | None = None, dtype: torch.dtype = torch.float32) -> None:
        """Load the model `source`; `reason` tells why the native runtime does not run it.

        Raises:
            BitnetError: as `bitnet.models.load_model`; weights that hold NaN or infinity.
        """
        from bitnet.models import check_weights, load_model

        self.loaded = load_model(source, dtype)
        check_weights(self.loaded.model)
        self.name = "transformers" if reason is None else f"transformers ({reason})"

    def encode(self, prompt: str, chat: bool = False) -> list[int]:
        """As `Engine.encode`."""
        tokenizer = self.loaded.tokenizer
        if chat:
            prompt = _in_template(tokenizer, prompt, self.loaded.source)
        return list(tokenizer(prompt, add_special_tokens=not chat)["input_ids"])

    def tokens(
        self, prompt: Sequence[int], max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[int]:
        """As `Engine.tokens`."""
        from bitnet.generation import next_tokens

        return next_tokens(self.loaded.model, prompt, max_new_tokens, temperature, seed)

    def text(self, prompt: Sequence[int], tokens: Iterator[int]) -> Iterator[str]:
        """As `Engine.text`."""
        from bitnet.generation import characters

        return characters(self.loaded.tokenizer, prompt, tokens)


def open_engine(source: str, backend: str | None = None, threads: int = 1) -> Engine:
    """Open a model for generation.

    Args:
        source: a packed folder, or what `bitnet.models.load_model` takes.
        backend: kernels of a packed model, one of `bitnet.kernels.backends()`; "torch" is transformers. None takes the
            best that runs the model.
        threads: upper bound for the runtime; transformers uses exactly so many.

    Raises:
        BitnetError: a model that cannot be read, or that the backend asked for cannot run; fewer than one thread.
    """
    if threads < 1:
        raise BitnetError(f"{threads} threads cannot run a model: give at least one.")
    reason = None
    if backend != TORCH and is_packed(Path(source)):
        try:
            return RuntimeEngine(Runtime.open(source, backend=backend, threads=threads))
        except UnsupportedError as refusal:
            if backend is not None:
                raise
            reason = refusal.what
    elif backend not in (None, TORCH):
        raise BitnetError(
            f"{source} is no packed model, so the kernels '{backend}' cannot run it: leave --backend out."
        )
    torch.set_num_threads(threads)
    return TransformersEngine(source, reason)


class Stopwatch:
    """Tokens on their way, with the time that they took."""

    def __init__(self, tokens: Iterator[int]) -> None:
        self._tokens = tokens
        self._started = self._first = self._last = time.perf_counter()
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        for token in self._tokens:
            self._last = time.perf_counter()
            if self.count == 0:
                self._first = self._last
            self.count += 1
            yield token

    def __str__(self) -> str:
        tokens = "1 token" if self.count == 1 else f"{self.count} tokens"
        wait = f"{self._first - self._started:.2f} s to the first"
        if self.count < 2:
            return f"{tokens}, {wait}" if self.count else tokens
        return f"{tokens}, {wait}, then {(self.count - 1) / (self._last - self._first):,.1f} a second"


def _in_template(tokenizer: Any, question: str, source: object) -> str:
    if not tokenizer.chat_template:
        raise BitnetError(f"{source} has no chat template: leave --chat out to continue the prompt as plain text.")
    messages = [{"role": "user", "content": question}]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # whatever a template of somebody else's makes of the question
        raise BitnetError(
            f"The chat template of {source} does not work ({first_line(error)}): leave --chat out."
        ) from error
