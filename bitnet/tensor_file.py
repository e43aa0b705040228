"""Safetensors files, written and read one tensor at a time."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bitnet.errors import BitnetError, first_line

#: Names of types in the file's header, in the order of the tensors behind it (as `safetensors.torch.save_file` has it).
DTYPES: Mapping[torch.dtype, str] = MappingProxyType(
    {
        torch.float32: "F32",
        torch.bfloat16: "BF16",
        torch.float16: "F16",
        torch.int8: "I8",
        torch.uint8: "U8",
    }
)
#: The header's length is a multiple of this.
_ALIGNMENT = 8


class Described(NamedTuple):
    """What a tensor is, but for its values."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Described":
        """The description of a tensor."""
        return cls(tensor.dtype, tuple(tensor.shape))

    @property
    def bytes(self) -> int:
        """Bytes that the values take."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class TensorWriter:
    """A context in which the tensors of a file are written in any order, none of them held.

    The file is byte for byte that of `safetensors.torch.save_file` with the metadata {"format": "pt"}.
    """

    def __init__(self, path: Path, layout: Mapping[str, Described]) -> None:
        """Write to `path` the tensors that `layout` describes by name."""
        self._path, self._layout = path, layout
        self._left = set(layout)
        self._starts: dict[str, int] = {}
        self._stream: BinaryIO

    def __enter__(self) -> Self:
        order = sorted(self._layout, key=lambda name: (list(DTYPES).index(self._layout[name].dtype), name))
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in order:
            dtype, shape = self._layout[name]
            start, end = end, end + self._layout[name].bytes
            self._starts[name] = start
            header[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self._stream = self._path.open("wb")
        self._stream.write(len(text).to_bytes(8, "little") + text)
        self._data = self._stream.tell()
        return self

    def put(self, name: str, tensor: Tensor) -> None:
        """Write one tensor, which must be what the layout says, to its place.

        Raises:
            BitnetError: it is not, or it has been written already.
        """
        if name not in self._left or Described.of(tensor) != self._layout[name]:
            raise BitnetError(f"The tensor '{name}' is not one that {self._path} waits for: compress the model again.")
        self._left.remove(name)
        self._stream.seek(self._data + self._starts[name])
        self._stream.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stream.close()
        if error is None and self._left:
            raise BitnetError(f"{self._path} lacks the tensor '{min(self._left)}': compress the model again.")


class TensorReader:
    """The tensors of one or several safetensors files by name; each is read when it is asked for, and not kept."""

    def __init__(self, *paths: Path) -> None:
        """Read the headers of `paths`.

        Raises:
            BitnetError: a file that is no safetensors file, or two that have a tensor of one name.
        """
        self._homes: dict[str, Path] = {}
        self.described: dict[str, tuple[str, tuple[int, ...]]] = {}
        """Type (as in `DTYPES`' values) and shape of each tensor."""
        for path in paths:
            with _opened(path) as stored:
                for name in stored.keys():  # noqa: SIM118 - not a mapping
                    if name in self._homes:
                        raise BitnetError(f"{path} has the tensor '{name}' of {self._homes[name]}: keep one of them.")
                    self._homes[name] = path
                    view = stored.get_slice(name)
                    self.described[name] = (view.get_dtype(), tuple(view.get_shape()))

    def get(self, name: str) -> Tensor:
        """One tensor as it is stored; it may be a view of the file, which is closed with the last of its tensors."""
        with _opened(self._homes[name]) as stored:
            tensor: Tensor = stored.get_tensor(name)
            return tensor


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise BitnetError(
            f"{path} is not a readable safetensors file ({first_line(error)}): copy or save it again."
        ) from error
