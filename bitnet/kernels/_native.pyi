"""The compiled kernels; addresses are those of `Tensor.data_ptr()`, checked by `bitnet.kernels.prepared`."""

def backends() -> list[str]:
    """Instruction sets that this build and this processor have, the best first."""

def quantize(backend: str, x: int, width: int, codes: int) -> float:
    """Write the int8 codes of one token of `width` float32 and return its scale."""

class Weight:
    """A ternary matrix in the kernels' layout."""

    def __init__(self, rows: int, width: int, group_size: int, backend: str) -> None: ...
    def add_plane(self, packed: int, codec: str, scales: int, scale_rows: int) -> None:
        """Add a plane from row-major packed bytes and float32 scales; ValueError for bytes that stand for no codes."""

    def set_bias(self, bias: int) -> None:
        """Copy a float32 bias of one value a row."""

    def forward(self, x: int, count: int, y: int, threads: int) -> None:
        """Write y float32 [count, rows] of x float32 [count, width]."""

    def accumulate(self, codes: int, count: int, sums: int, threads: int) -> None:
        """Write the integer sums, int32 [count, planes, groups, rows], of int8 codes [count, width]."""

    @property
    def bytes(self) -> int:
        """Memory that the matrix takes."""
