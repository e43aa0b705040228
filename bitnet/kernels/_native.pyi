"""The compiled kernels; addresses are those of `Tensor.data_ptr()`, checked by `bitnet.kernels.prepared`."""

from torch import Tensor

def backends() -> list[str]:
    """Instruction sets that this build and this processor have, the best first."""

def quantize(backend: str, x: int, width: int, codes: int) -> float:
    """Write the int8 codes of one token of `width` float32 and return its scale."""

def forget_mapped(address: int, bytes: int) -> None:
    """Give back the memory of a mapped file's pages, which are read again when they are needed."""

def exchange(type: type, table: object) -> None:
    """Take tensors of that type by the table that it has as `__dlpack_c_exchange_api__` (DLPack 1.3)."""

def try_forward_all(weights: list[Weight], x: Tensor, ys: tuple[Tensor, ...], threads: int) -> bool:
    """`Weight.try_forward` for several weights of one x, quantized once; False, and nothing written, where a tensor or
    the number of them does not fit."""

class Weight:
    """A ternary matrix in the kernels' layout."""

    def __init__(self, rows: int, width: int, group_size: int, backend: str) -> None: ...
    def add_plane(self, packed: int, codec: str, scales: int, scale_rows: int) -> None:
        """Add a plane from row-major packed bytes and float32 scales; ValueError for bytes that stand for no codes."""

    def set_bias(self, bias: int) -> None:
        """Copy a float32 bias of one value a row."""

    def forward(self, x: int, count: int, y: int, threads: int) -> None:
        """Write y float32 [count, rows] of x float32 [count, width]."""

    def try_forward(self, x: Tensor, y: Tensor, threads: int) -> bool:
        """`forward`, if both are dense float32 CPU tensors without a gradient and of shapes that fit; else False."""

    def accumulate(self, codes: int, count: int, sums: int, threads: int) -> None:
        """Write the integer sums, int32 [count, planes, groups, rows], of int8 codes [count, width]."""

    @property
    def bytes(self) -> int:
        """Memory that the matrix takes."""

class Table:
    """Embeddings or an output head: "float32", "float16" or "int8" with one float32 scale a row."""

    def __init__(self, kind: str, values: int, scales: int) -> None: ...

class Decoder:
    """A decoder of the Llama family; it keeps its weights alive, but not what the addresses point to."""

    def __init__(
        self,
        hidden: int,
        intermediate: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        vocabulary: int,
        context: int,
        epsilon: float,
        rotary_factor: float,
        frequencies: int,
        norm: int,
        embedding: Table,
        head: Table,
    ) -> None: ...
    def add_layer(
        self,
        input_norm: int,
        post_norm: int,
        query: Weight,
        key: Weight,
        value: Weight,
        output: Weight,
        gate: Weight,
        up: Weight,
        down: Weight,
    ) -> None:
        """Add a layer; ValueError for a weight that does not fit."""

    def forward(self, tokens: list[int], position: int, logits: int, all: bool, threads: int) -> None:
        """Run tokens; write float32 logits of all of them or the last. IndexError outside model or context."""

    def next(self, tokens: list[int], position: int, threads: int) -> int:
        """Run tokens and return the most likely next one, the first of equals; -1 where a logit is NaN or infinite."""

    def embed(self, tokens: list[int], hidden: int) -> None:
        """Write the float32 hidden states that tokens start as, [tokens, hidden]; IndexError as `forward`."""

    def layer(self, index: int, hidden: int, count: int, threads: int) -> None:
        """Replace the hidden states of a sequence's first tokens by what one layer makes of them; IndexError."""

    def head(self, hidden: int, count: int, logits: int, threads: int) -> None:
        """Write the float32 logits of what the last layer made."""

    @property
    def math(self) -> str:
        """Vector instructions of the float arithmetic."""
