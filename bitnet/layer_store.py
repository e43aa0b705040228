"""Ternary layers kept on disk while a model is being made ternary, so that an interrupted run goes on where it was."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bitnet.checkpoint import atomic_file
from bitnet.packing import pack_planes, unpack_planes
from bitnet.ternary import TernarySum

_TENSORS = ("packed", "scale", "output_error")


@dataclass(frozen=True)
class TernaryLayer:
    """A layer's planes, the mean squared error of each output over the calibration tokens, and the relative one.

    A model's layers are held together, so their codes are packed, in 2 bits.
    """

    packed: UInt8[Tensor, "planes out bytes"]
    scale: Float32[Tensor, "planes out groups"]
    width: int
    group_size: int | None
    output_error: Float32[Tensor, "out"]
    relative_error: float

    @classmethod
    def of(cls, weight: TernarySum, output_error: Float32[Tensor, "out"], relative_error: float) -> "TernaryLayer":
        """The layer of these planes."""
        packed, width = pack_planes(weight.codes, "2bit"), weight.codes.shape[2]
        return cls(packed, weight.scale, width, weight.group_size, output_error, relative_error)

    @property
    def weight(self) -> TernarySum:
        """The planes, unpacked anew at every access."""
        return TernarySum(unpack_planes(self.packed, "2bit", self.width), self.scale, self.group_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(planes, out, in)."""
        planes, rows, _ = self.packed.shape
        return planes, rows, self.width


class LayerStore:
    """One file for each layer and everything that it depends on: the run, and the planes of all layers before it.

    Layers come in the order in which the model runs them. So runs that differ in the planes of a later layer share the
    earlier ones.
    """

    def __init__(self, folder: Path, run: str) -> None:
        """Keep layers in `folder`, made if need be; `run` tells apart models, calibration tokens and settings."""
        self._folder, self._state = folder, run

    def branch(self, label: str) -> "LayerStore":
        """A store of other layers of the same run, in the same folder."""
        return LayerStore(self._folder, f"{self._state} {label}")

    def get(self, name: str, planes: int) -> TernaryLayer | None:
        """The layer that comes next, if it is there and undamaged; moves on to it in any case."""
        self._state = hashlib.sha256(json.dumps([self._state, name, planes]).encode()).hexdigest()
        try:
            with safe_open(self._path, framework="pt") as stored:
                told, sha256 = (stored.metadata()[key] for key in ("layer", "sha256"))
                packed, scale, error = (stored.get_tensor(key) for key in _TENSORS)
        except (OSError, SafetensorError, KeyError, TypeError):
            return None  # not there, or damaged: it is made again
        if _digest(told, packed, scale, error) != sha256:
            return None
        about = json.loads(told)
        return TernaryLayer(packed, scale, about["width"], about["group_size"], error, about["relative_error"])

    def put(self, name: str, layer: TernaryLayer) -> None:
        """Keep the layer that `get` was asked for last."""
        about = {
            "name": name,
            "width": layer.width,
            "group_size": layer.group_size,
            "relative_error": layer.relative_error,
        }
        told = json.dumps(about)
        tensors = [
            part.to(torch.device("cpu")).contiguous() for part in (layer.packed, layer.scale, layer.output_error)
        ]
        with atomic_file(self._path) as path:
            save_file(
                dict(zip(_TENSORS, tensors, strict=True)),
                path,
                metadata={"layer": told, "sha256": _digest(told, *tensors)},
            )

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._state[:24]}.safetensors"


def _digest(about: str, *tensors: Tensor) -> str:
    """SHA-256 over what is told of a layer, and over its tensors with their dtypes and shapes."""
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
