"""What compression saves, counted in bytes on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitnet.packed_manifest import TENSORS, read_manifest


@dataclass(frozen=True)
class Sizes:
    """Bytes, before and after, and the ratios that follow from them.

    `fp32_bytes` counts 4 bytes for every unique parameter of the model, `packed_bytes` every file of the packed folder.
    The `quantized_*` figures are about the projections' weights alone: codes and scales as stored, and what is kept of
    them in float16.
    """

    fp32_bytes: int
    packed_bytes: int
    fp16_folder_bytes: int
    quantized_weights: int
    quantized_bytes: int

    @property
    def compression_ratio(self) -> float:
        """FP32 bytes over packed bytes, whole model."""
        return self.fp32_bytes / self.packed_bytes

    @property
    def compression_ratio_fp16(self) -> float:
        """FP16 bytes (2 a parameter) over packed bytes, whole model."""
        return self.fp32_bytes / 2 / self.packed_bytes

    @property
    def quantized_ratio(self) -> float:
        """FP32 bytes over packed bytes, quantized weights alone."""
        return 4 * self.quantized_weights / self.quantized_bytes

    @property
    def bits_per_weight(self) -> float:
        """Bits stored for a quantized weight: codes, their padding, and scales."""
        return 8 * self.quantized_bytes / self.quantized_weights


def sizes(parameters: int, packed: Path, fp16: Path) -> Sizes:
    """Account for the two artefacts of a model with `parameters` unique parameters.

    Raises:
        BitnetError: `packed` is not a packed folder.
    """
    manifest = read_manifest(packed)
    layers = manifest.layers
    stored = tensor_bytes(packed / TENSORS)
    kept = sum(stored[f"{name}.weight"] for name in manifest.kept)
    return Sizes(
        fp32_bytes=4 * parameters,
        packed_bytes=folder_bytes(packed),
        fp16_folder_bytes=folder_bytes(fp16),
        quantized_weights=sum(layer.shape[0] * layer.shape[1] for layer in layers) + kept // 2,
        quantized_bytes=sum(weight_bytes(stored, layer.name) for layer in layers) + kept,
    )


def weight_bytes(stored: Mapping[str, int], layer: str) -> int:
    """Bytes of a layer's codes and scales, given those of every tensor."""
    return sum(stored.get(f"{layer}.{part}", 0) for part in ("packed", "scale", "scale_exponent"))


def folder_bytes(directory: Path) -> int:
    """Bytes of all files in a folder and its subfolders."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def tensor_bytes(path: Path) -> dict[str, int]:
    """Bytes that each tensor takes in a safetensors file, read from its header."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    return {
        name: entry["data_offsets"][1] - entry["data_offsets"][0]
        for name, entry in header.items()
        if name != "__metadata__"
    }
