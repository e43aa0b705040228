"""A command line that compresses by signs and row means, in no time, for the meta-tests.

    sparing_command.py DEFECT compress MODEL --out OUT ...

Codes take 2 bits and scales 16. DEFECT is "" or the one thing that is done wrong; a recovery is what it is told of, and
changes nothing.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

HELD: dict[str, int] = {"holds more than it may": 500_000_000}
"""Bytes, by defect."""
SECONDS: dict[str, float] = {"takes its time": 9.0}


def main(defect: str, words: list[str]) -> int:
    """Compress, and give the exit code: 1, as a missed gate has."""
    source, out = Path(words[1]), Path(words[words.index("--out") + 1])
    if defect == "breaks down":
        print("there was nothing to be done", file=sys.stderr)
        return 3
    held = b"x" * HELD.get(defect, 0)
    time.sleep(SECONDS.get(defect, 0.0))
    packed: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if layer.endswith("_proj"):
            scale = np.abs(tensor).mean(axis=1, keepdims=True).astype(np.float16)
            codes = (np.sign(tensor) * (np.abs(tensor) > scale / 2)).astype(np.int8)
            stored = codes if defect == "a byte for each code" else two_bits(codes)
            packed |= {f"{layer}.codes": stored, f"{layer}.scale": scale}
            tensor = codes * scale.astype(np.float32)
        plain[name] = np.ascontiguousarray(tensor, np.float32)
    noise = {"noise": True, "recovery spoils it": "recovered" in words, "one plane is noise": "one" in words}
    if noise.get(defect, False):  # predictions as sure as they are wrong
        plain["model.norm.weight"] = 100 * plain["model.norm.weight"]
    for form, tensors in (("packed", packed), ("plain", plain)):
        shutil.copytree(source, out / form)
        save_file(tensors, out / form / "model.safetensors", {"format": "pt"})
    if defect == "no artefact":
        shutil.rmtree(out / "packed")
    del held
    return 1


def two_bits(codes: Any) -> Any:
    """Four codes a byte."""
    values = (codes + 1).astype(np.uint8).reshape(len(codes), -1, 4)
    return values[..., 0] | values[..., 1] << 2 | values[..., 2] << 4 | values[..., 3] << 6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
