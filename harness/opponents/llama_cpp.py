"""llama.cpp as an opponent, through llama-cpp-python's C interface: none of its Python model is in the timed call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from harness.errors import AuditError
from harness.opponents import require_llama_cpp

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor

CONTEXT: Final = 512
FILE_TYPES: Final = {"Q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0", "TQ2_0": "LLAMA_FTYPE_MOSTLY_TQ2_0"}


@cache
def library() -> Any:
    """llama-cpp-python's C interface, silent; raises OpponentAbsent where it is not installed."""
    require_llama_cpp()
    from llama_cpp import llama_cpp

    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(_silence, ctypes.c_void_p(0))
    return llama_cpp


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)  # type: ignore[untyped-decorator]
def _silence(_level: int, _text: bytes, _data: object) -> None:
    """Takes llama.cpp's log and drops it."""


def quantize(source: Path, out: Path, kind: str) -> None:
    """llama.cpp's own quantization of a float16 GGUF file: one of FILE_TYPES, with its own choice for each tensor.

    Rows that the type does not divide, and tables, get the types that llama.cpp falls back to.
    """
    c = library()
    parameters = c.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = getattr(c, FILE_TYPES[kind]), 1
    if c.llama_model_quantize(bytes(source), bytes(out), ctypes.byref(parameters)) != 0:
        raise AuditError(f"llama.cpp could not quantize {source} to {kind}; run the benchmark again")


class LlamaCppArm:
    """A GGUF file in llama.cpp, on one thread and with its defaults otherwise."""

    def __init__(self, path: Path, name: str) -> None:
        """Load a file without a tokenizer; raises AuditError where llama.cpp refuses it."""
        self.name, self._c = name, library()
        parameters = self._c.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = self._c.llama_model_load_from_file(bytes(path), parameters)
        if not self._model:
            raise AuditError(f"llama.cpp could not load {path}; run the benchmark again")
        self._size = self._c.llama_vocab_n_tokens(self._c.llama_model_get_vocab(self._model))
        settings = self._c.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = CONTEXT, CONTEXT, CONTEXT
        settings.n_threads = settings.n_threads_batch = 1
        self._context = self._c.llama_init_from_model(self._model, settings)

    def close(self) -> None:
        """Free the model; the arm is of no use afterwards."""
        self._c.llama_free(self._context)
        self._c.llama_model_free(self._model)

    def tokenize(self, text: str) -> list[int]:
        """The tokens that the file's own tokenizer makes of a text, none added; empty for a file without one."""
        encoded = text.encode()
        array = (ctypes.c_int32 * len(encoded))()
        vocabulary = self._c.llama_model_get_vocab(self._model)
        count = self._c.llama_tokenize(vocabulary, encoded, len(encoded), array, len(array), False, False)
        return list(array[: max(count, 0)])

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """As `TextArm.greedy`."""
        self._reset()
        chosen = [self._likeliest(prompt)]
        while len(chosen) < count:
            chosen.append(self._likeliest(chosen[-1:]))
        return chosen

    def prefill(self, prompt: Sequence[int]) -> object:
        """As `TextArm.prefill`."""
        self._reset()
        return self._likeliest(prompt)

    def logits(self, tokens: Sequence[int]) -> Float32[Tensor, "length vocabulary"]:
        """As `TextArm.logits`, in one batch."""
        self._reset()
        batch = self._c.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index], batch.logits[index] = token, index, 1
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        self._decode(batch)
        rows = [torch.from_numpy(self._row(index).copy()) for index in range(len(tokens))]
        self._c.llama_batch_free(batch)
        return torch.stack(rows)

    def _reset(self) -> None:
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)

    def _likeliest(self, tokens: Sequence[int]) -> int:
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        self._decode(self._c.llama_batch_get_one(array, len(tokens)))
        return int(self._row(-1).argmax())

    def _decode(self, batch: Any) -> None:
        if status := self._c.llama_decode(self._context, batch):
            raise AuditError(f"llama.cpp ended with status {status} in {self.name}; run the benchmark again")

    def _row(self, index: int) -> np.ndarray:
        pointer = self._c.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self._size,))
