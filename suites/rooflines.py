"""The roofline plot: what each arm reaches, under what the machine allows for the bytes that it has to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.opponents.ggml import GgmlTernaryProduct
from harness.opponents.products import torch_products
from harness.races import Finish
from suites.kernel_races import MEMORY, PEAK

SUBJECT = "subject"
SUBJECT_BITS = 2.0


def roofline(cached: Mapping[int, Finish], streamed: Finish) -> dict[str, Any]:
    """Rates in GMAC/s against multiply-accumulates a byte of weights; `cached` are races by their number of tokens.

    Source: Williams, Waterman and Patterson, "Roofline" (2009). The roof is that of weights from memory; weights in a
    cache may lie above its slope, never above its top.
    """
    others = (GgmlTernaryProduct(), *torch_products())
    bits = {SUBJECT: SUBJECT_BITS} | {product.name: product.bits for product in others}
    points: dict[str, dict[float, float]] = {}
    for tokens, finish in cached.items():
        for name in (name for name in bits if finish.took_part(name)):
            points.setdefault(name, {})[intensity(tokens, bits[name])] = finish.rate(name)
    for name in (name for name in (SUBJECT, GgmlTernaryProduct().name) if streamed.took_part(name)):
        points.setdefault(f"{name}, from memory", {})[intensity(1, bits[name])] = streamed.rate(name)
    x = sorted({place for series in points.values() for place in series})
    peak = max(finish.rate(PEAK) for finish in cached.values())
    bandwidth = streamed.rate(MEMORY) / intensity(1, SUBJECT_BITS)  # bytes a second: that arm counts 2-bit weights
    roof = {"roof": [min(peak, bandwidth * place) for place in x]}
    return {
        "plot": "line",
        "title": "Roofline: rates against the work done for each byte of weights",
        "x": x,
        "y": roof | {name: [series.get(place) for place in x] for name, series in points.items()},
        "x_label": "multiply-accumulates a byte of weights",
        "y_label": "GMAC/s",
        "x_scale": "log",
        "y_scale": "log",
        "guides": ["roof"],
        "timing": True,
    }


def intensity(tokens: int, bits: float) -> float:
    """Multiply-accumulates for each byte of weights."""
    return tokens * 8 / bits
