"""The tensors of a packed folder, memory-mapped, in the form that the decoder takes."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bitnet.config import TableDtype
from bitnet.errors import BitnetError, first_line
from bitnet.kernels import PackedPlane, PreparedWeight
from bitnet.kernels.backends import native
from bitnet.packed_manifest import PackedManifest
from bitnet.packing import bytes_per_row
from bitnet.runtime.description import UnsupportedError
from bitnet.scales import decode_scales
from bitnet.tables import CODE_LIMITS, table_codes, table_layout


class TensorFile:
    """A safetensors file, mapped and not read: memory fills with the pages that are used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any
        try:
            self._file = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise BitnetError(
                f"{path} is not a readable safetensors file ({first_line(error)}): copy or save it again."
            ) from error
        self._names = frozenset(self._file.keys())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def take(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A tensor of the file; a BitnetError if it is missing or of another dtype or shape."""
        if name not in self._names:
            raise BitnetError(f"{self.path} lacks the tensor '{name}'.")
        tensor: Tensor = self._file.get_tensor(name)
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise BitnetError(
                f"Tensor '{name}' in {self.path} is {tensor.dtype} {list(tensor.shape)} instead of {dtype} "
                f"{list(shape)}."
            )
        return tensor


def forget(tensor: Tensor) -> None:
    """Give back the memory of a tensor in a mapped file, which is read again should it be needed."""
    module = native()
    if module is not None:
        module.forget_mapped(tensor.data_ptr(), tensor.nbytes)


class StoredTable(NamedTuple):
    """Embeddings or an output head as the decoder reads them: values, and float32 scales for "int8"."""

    dtype: TableDtype
    values: Tensor
    scales: Float32[Tensor, "rows"] | None


def read_table(file: TensorFile, name: str, shape: tuple[int, int], dtype: TableDtype) -> StoredTable:
    """The table `name`; its values stay in the file's mapping, but for codes of 6 bits, which become int8."""
    parts = {part: file.take(f"{name}.{part}", *kind) for part, kind in table_layout(dtype, shape).items()}
    if dtype not in CODE_LIMITS:
        return StoredTable(dtype, parts["weight"], None)
    scales = parts["scale"].float().view(-1)
    check_finite(file.path, f"{name}.scale", scales)
    return StoredTable("int8", table_codes(parts["codes"], shape[1]), scales)


def check_finite(path: Path, name: str, tensor: Tensor) -> None:
    """A BitnetError if a value of a float32 tensor is NaN or infinite."""
    if not np.isfinite(tensor.numpy()).all():
        raise BitnetError(f"Tensor '{name}' in {path} holds NaN or infinite values: compress the model again.")


class PackedLayers:
    """Quantized layers of a packed file by name, each repacked when it is asked for.

    The file is mapped for these alone: once this object is gone, so are the pages that only repacking needed.
    """

    def __init__(self, path: Path, manifest: PackedManifest, backend: str) -> None:
        self._file, self._backend = TensorFile(path), backend
        self._settings = manifest.quantization
        self._records = {record.name: record for record in manifest.layers}

    def prepare(self, name: str, shape: tuple[int, int]) -> PreparedWeight:
        """The layer `name`; UnsupportedError if it is not quantized or of another shape."""
        record = self._records.get(name)
        if record is None or record.shape != shape:
            found = "is not quantized" if record is None else f"is {list(record.shape)} instead of {list(shape)}"
            raise UnsupportedError(self._file.path, f"layer '{name}' {found}")
        rows, width = shape
        shape_packed = (record.planes, rows, bytes_per_row(width, record.codec))
        packed = self._file.take(f"{name}.packed", torch.uint8, shape_packed)
        scale = decode_scales(self._file.take, name, self._settings.scale_dtype, record.scale_shape)
        check_finite(self._file.path, f"{name}.scale", scale)
        planes = [PackedPlane(p, record.codec, s) for p, s in zip(packed, scale, strict=True)]
        group_size = self._settings.group_size if self._settings.granularity == "group" else None
        bias = self._file.take(f"{name}.bias", torch.float32, (rows,)) if f"{name}.bias" in self._file else None
        try:
            weight = PreparedWeight(planes, width, group_size, bias, backend=self._backend)
        except BitnetError as error:
            raise BitnetError(f"Layer '{name}' in {self._file.path}: {error}") from error
        forget(packed)
        return weight
