"""Absmax activation quantization per token in float64: what a subject's activation codes are compared with.

For a token x (the last axis) and a positive limit Q (127 for int8): scale = max|x| / Q and codes = round(x / scale), so
that x ~ codes * scale with an error of at most scale / 2 = max|x| / (2 Q). A token of zeros has scale 0 and codes 0.
Where max|x| is below a declared floor, the floor takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64


@dataclass(frozen=True)
class ReferenceActivation:
    """Codes, scale per token, and where a code is decided, that is: not within rounding of a tie between two codes."""

    codes: Float64[np.ndarray, "... features"]
    scale: Float64[np.ndarray, "... 1"]
    decided: Bool[np.ndarray, "... features"]


def quantize(
    x: Float64[np.ndarray, "... features"], limit: int, resolution: float, floor: float = 0.0
) -> ReferenceActivation:
    """Absmax codes of every token; ``resolution`` is the relative rounding error granted to the subject's x / scale."""
    scale = np.maximum(np.abs(x).max(axis=-1, keepdims=True), floor) / limit
    ratio = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)
    distance_to_tie = np.abs(np.abs(ratio - np.trunc(ratio)) - 0.5)
    return ReferenceActivation(np.rint(ratio), scale, distance_to_tie > resolution * np.maximum(np.abs(ratio), 1.0))


def error_bound(
    x: Float64[np.ndarray, "... features"], limit: int, floor: float = 0.0, clipped: int = 0
) -> Float64[np.ndarray, "... 1"]:
    """The largest error that rounding to the nearest code leaves: half a step, max|x| / (2 limit).

    ``clipped`` is how many codes the range lacks at its upper end: 1 where 128 is clipped to 127, a whole step.
    """
    step: Float64[np.ndarray, "... 1"] = np.maximum(np.abs(x).max(axis=-1, keepdims=True), floor) / limit
    return step * max(0.5, clipped)
