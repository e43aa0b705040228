"""llama.cpp's own product with a TQ2_0 weight, called through ggml's graph interface as llama.cpp calls it.

llama-cpp-python brings ggml as shared libraries; its Python part has no bindings for graphs, so these few are here.
A graph holds one product after another, which leaves nothing of Python inside the timed call.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from harness.opponents import OpponentAbsent, require_llama_cpp
from harness.opponents.gguf_files import TQ2_BLOCK, tq2_bytes
from harness.opponents.products import Prepared
from harness.subject import QuantizedWeight

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor

F32, TQ2_0 = 0, 35  # enum ggml_type
SPARE_BYTES: Final = 64 << 20
"""For the graph, its tensors' headers and the quantized activations."""


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@cache
def _library() -> Any:
    """llama.cpp's library, through which those of ggml that it was linked with are reached, with signatures."""
    require_llama_cpp()
    import llama_cpp

    path = Path(llama_cpp.__file__).parent / "lib" / "libllama.so"
    try:
        ggml = ctypes.CDLL(str(path))
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        signatures: tuple[tuple[Any, Any, list[Any]], ...] = (
            (ggml.ggml_init, pointer, [_InitParams]),
            (ggml.ggml_free, None, [pointer]),
            (ggml.ggml_new_tensor_2d, pointer, [pointer, ctypes.c_int, number, number]),
            (ggml.ggml_get_data, pointer, [pointer]),
            (ggml.ggml_mul_mat, pointer, [pointer, pointer, pointer]),
            (ggml.ggml_new_graph_custom, pointer, [pointer, ctypes.c_size_t, ctypes.c_bool]),
            (ggml.ggml_build_forward_expand, None, [pointer, pointer]),
            (ggml.ggml_graph_compute_with_ctx, ctypes.c_int, [pointer, pointer, ctypes.c_int]),
        )
        for function, result, arguments in signatures:
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise OpponentAbsent(f"ggml is absent: it cannot be reached through {path.name} ({error})") from error
    ggml.ggml_cpu_init()
    return ggml


class _Products:
    """Products of TQ2_0 weights with one float32 input, taken in turn; its memory goes with it."""

    def __init__(self, weights: Sequence[QuantizedWeight], x: Float32[Tensor, "tokens in"], products: int) -> None:
        self._ggml = _library()
        (self.rows, width), self.tokens = weights[0].codes.shape, len(x)
        stored = [tq2_bytes(weight) for weight in weights]
        # A run goes on where the last one ended: enough runs of them to take every weight.
        runs = -(-len(weights) // products)
        outputs = (1 + runs * products) * self.rows * self.tokens * 4
        size = sum(each.nbytes for each in stored) + x.nbytes + outputs + SPARE_BYTES
        self._context = self._ggml.ggml_init(_InitParams(size, None, False))
        self._weights = [self._tensor(TQ2_0, width, self.rows, each) for each in stored]
        self._x = self._tensor(F32, width, self.tokens, x.contiguous().numpy())
        self._first, (self._result,) = self._graph(range(1))
        starts = range(0, runs * products, products)
        self._turn = itertools.cycle([self._graph(range(start, start + products))[0] for start in starts])
        # What a computation allocates in the context for its plan would pile up: it gets a context of its own.
        self._scratch = ctypes.create_string_buffer(SPARE_BYTES)

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._ggml.ggml_free(self._context)

    def run(self) -> None:
        """Compute the next products on one thread."""
        self._compute(next(self._turn))

    def once(self) -> None:
        """Compute the first product alone."""
        self._compute(self._first)

    def _graph(self, places: range) -> tuple[int, list[int]]:
        """A graph of the products with the weights at these places, counted round and round, and its nodes."""
        graph: int = self._ggml.ggml_new_graph_custom(self._context, 2 * len(places) + 8, False)
        weights = [self._weights[place % len(self._weights)] for place in places]
        nodes = [self._ggml.ggml_mul_mat(self._context, weight, self._x) for weight in weights]
        for node in nodes:
            self._ggml.ggml_build_forward_expand(graph, node)
        return graph, nodes

    def _compute(self, graph: int) -> None:
        scratch = self._ggml.ggml_init(_InitParams(SPARE_BYTES, ctypes.addressof(self._scratch), False))
        status = self._ggml.ggml_graph_compute_with_ctx(scratch, graph, 1)
        self._ggml.ggml_free(scratch)
        if status != 0:
            raise RuntimeError(f"ggml ended with status {status}")

    def output(self) -> Float32[Tensor, "tokens out"]:
        """The first product, which this computes."""
        self.once()
        values = torch.empty(self.tokens, self.rows)
        ctypes.memmove(values.data_ptr(), self._ggml.ggml_get_data(self._result), values.nbytes)
        return values

    def _tensor(self, kind: int, width: int, rows: int, content: np.ndarray) -> int:
        tensor: int = self._ggml.ggml_new_tensor_2d(self._context, kind, width, rows)
        ctypes.memmove(self._ggml.ggml_get_data(tensor), content.ctypes.data, content.nbytes)
        return tensor


@dataclass(frozen=True)
class GgmlTernaryProduct:
    """llama.cpp TQ2_0: 2-bit codes with a float16 scale for every 256 of them, activations in Q8_K."""

    name: str = "llama.cpp TQ2_0"
    bits: float = 8 * 66 / TQ2_BLOCK

    def prepare(self, weights: Sequence[QuantizedWeight], x: Float32[Tensor, "tokens in"], products: int) -> Prepared:
        """As `Product.prepare`; raises OpponentAbsent where llama-cpp-python is not installed."""
        made = _Products(weights, x, products)
        return Prepared(made.run, made.output, made.once, "one call of ggml for all of them")
