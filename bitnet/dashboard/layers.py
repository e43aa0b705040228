"""The layers of a packed model, from `result.json` and the tensors on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from bitnet.errors import BitnetError
from bitnet.packed_manifest import TENSORS

_BINS = 40


@dataclass(frozen=True)
class Bar:
    """So many scales of a plane (numbered from 1) lie in [low, high)."""

    plane: int
    low: float
    high: float
    count: int


def scale_histogram(packed: Path, layer: str) -> tuple[Bar, ...]:
    """How the scales of a layer are distributed, each plane's for itself, over bins that the planes share.

    Raises:
        BitnetError: the packed model cannot be read, or has no such layer.
    """
    scales = _scales(packed / TENSORS, layer)
    edges = np.histogram_bin_edges(scales, _BINS)
    return tuple(
        Bar(number, float(edges[index]), float(edges[index + 1]), int(count))
        for number, plane in enumerate(scales, start=1)
        for index, count in enumerate(np.histogram(plane, edges)[0])
    )


def _scales(path: Path, layer: str) -> np.ndarray:
    """The scales of a layer, [planes, rows, groups]; bytes count in units of a power of two for each row."""
    name, exponent = f"{layer}.scale", f"{layer}.scale_exponent"
    try:
        with safe_open(path, framework="numpy") as tensors:
            names = set(tensors.keys())
            if name not in names:
                raise BitnetError(f"{path} has no scales of '{layer}': compress the model again.")
            scale = np.asarray(tensors.get_tensor(name), dtype=np.float64)
            if exponent in names:
                scale = scale * np.exp2(np.asarray(tensors.get_tensor(exponent), dtype=np.float64))[None, :, None]
            return scale
    except (OSError, SafetensorError) as error:
        raise BitnetError(f"Cannot read {path} ({error}): compress the model again.") from None
