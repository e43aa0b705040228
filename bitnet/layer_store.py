"""Ternary layers kept on disk while a model is being made ternary, so that an interrupted run goes on where it was."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bitnet.checkpoint import atomic_file
from bitnet.packing import pack_planes, unpack_planes
from bitnet.ternary import TernarySum


@dataclass(frozen=True)
class TernaryLayer:
    """A layer's planes, the mean squared error of each output over the calibration tokens, and the relative one."""

    weight: TernarySum
    output_error: Float32[Tensor, "out"]
    relative_error: float


class LayerStore:
    """One file for each layer and everything that it depends on: the run, and the planes of all layers before it.

    Layers come in the order in which the model runs them. So runs that differ in the planes of a later layer share the
    earlier ones.
    """

    def __init__(self, folder: Path, run: str) -> None:
        """Keep layers in `folder`, made if need be; `run` tells apart models, calibration tokens and settings."""
        self._folder, self._state = folder, run

    def get(self, name: str, planes: int) -> TernaryLayer | None:
        """The layer that comes next, if it is there; moves on to it in any case."""
        self._state = hashlib.sha256(json.dumps([self._state, name, planes]).encode()).hexdigest()
        try:
            with safe_open(self._path, framework="pt") as stored:
                about = json.loads(stored.metadata()["layer"])
                packed, scale, error = (stored.get_tensor(key) for key in ("packed", "scale", "output_error"))
        except (OSError, SafetensorError):
            return None  # not there, or of an interrupted write elsewhere: it is made again
        codes = unpack_planes(packed, "2bit", about["width"])
        return TernaryLayer(TernarySum(codes, scale, about["group_size"]), error, about["relative_error"])

    def put(self, name: str, layer: TernaryLayer) -> None:
        """Keep the layer that `get` was asked for last."""
        weight = layer.weight
        about = {
            "name": name,
            "width": weight.codes.shape[2],
            "group_size": weight.group_size,
            "relative_error": layer.relative_error,
        }
        tensors = {
            "packed": pack_planes(weight.codes, "2bit"),
            "scale": weight.scale,
            "output_error": layer.output_error,
        }
        with atomic_file(self._path) as path:
            save_file(
                {key: tensor.to(torch.device("cpu")).contiguous() for key, tensor in tensors.items()},
                path,
                metadata={"layer": json.dumps(about)},
            )

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._state[:24]}.safetensors"
