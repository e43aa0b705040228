"""Subjects that compress models with one defect each in bytes, codes and report: what real ones got wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from harness.mutants.reference.compressing import TENSORS, CompressingSubject
from harness.subject import CompressionReport, QuantizedWeight

# --------------------------------------------------------------------------- bytes


class CodesStoredAsFloat32(CompressingSubject):
    """Stores each code as a float32."""

    @override
    def pack_codes(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.float()

    @override
    def unpack_codes(self, packed: torch.Tensor, width: int) -> torch.Tensor:
        return packed.to(torch.int8)


class Int8StoredAsInt16(CompressingSubject):
    """Takes two bytes for a code of int8."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        return codes.to(torch.int16).view(torch.uint8)

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        return packed.view(torch.int16).to(torch.int8)


class Int8LosesTheSign(CompressingSubject):
    """Unpacks -1 as 1."""

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        return packed.view(torch.int8).abs()


class Timestamp(CompressingSubject):
    """Writes the time into the artefact."""

    @override
    def save_packed(self, model: Any, tokenizer: Any, weights: dict[str, QuantizedWeight], folder: Path) -> None:
        super().save_packed(model, tokenizer, weights, folder)
        (folder / "made.txt").write_text(str(time.time_ns()), encoding="utf-8")


class SeedIgnored(CompressingSubject):
    """Whatever random numbers come next decide one scale."""

    @override
    def recover(self, weights: dict[str, QuantizedWeight], overrides: Mapping[str, str]) -> dict[str, QuantizedWeight]:
        for weight in weights.values():
            weight.scale[0] *= 1 + 0.01 * torch.rand(())
        return weights


# --------------------------------------------------------------------------- codes


class ScaledValuesCastToInt8(CompressingSubject):
    """All zeros, which are a subset of {-1, 0, 1}."""

    @override
    def quantize(self, weight: torch.Tensor) -> QuantizedWeight:
        quantized = super().quantize(weight)
        return replace(quantized, codes=(quantized.codes * quantized.scale * 0.1).to(torch.int8))


class NegativeCodesLost(CompressingSubject):
    """No code is -1."""

    @override
    def quantize(self, weight: torch.Tensor) -> QuantizedWeight:
        quantized = super().quantize(weight)
        return replace(quantized, codes=quantized.codes.clamp_min(0))


class NaNScale(CompressingSubject):
    """One scale is NaN."""

    @override
    def quantize(self, weight: torch.Tensor) -> QuantizedWeight:
        quantized = super().quantize(weight)
        quantized.scale[0] = float("nan")
        return quantized


class MostWeightsZero(CompressingSubject):
    """A threshold so high that most weights become 0."""

    threshold = 1.5


class HardlyAnyZeros(CompressingSubject):
    """A threshold so low that hardly any weight becomes 0."""

    threshold = 0.05


class RunsOnRoundedScales(CompressingSubject):
    """The layer shows the stored scales and computes with others."""

    @override
    def packed_layer(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> nn.Module:
        return super().packed_layer(replace(weight, scale=weight.scale.bfloat16().float()), bias)


# --------------------------------------------------------------------------- the report


class MisreportingSubject(CompressingSubject):
    """Compresses as it should and reports something else, by one of `misreports`."""

    def __init__(self, words: str) -> None:
        self.words = words

    @override
    def report(
        self,
        model: Any,
        tokenizer: Any,
        weights: dict[str, QuantizedWeight],
        packed: Path,
        overrides: Mapping[str, str],
    ) -> CompressionReport:
        made = super().report(model, tokenizer, weights, packed, overrides)
        return replace(made, **misreports(made, packed)[self.words])


def misreports(made: CompressionReport, packed: Path) -> dict[str, dict[str, Any]]:
    """What is reported in the place of what is right, by its name; "" is the truth."""
    nan = float("nan")
    return {
        "": {},
        "ratio of the weights alone": {"compression_ratio": 16.0},
        "size without the tokenizer": {"packed_bytes": (packed / TENSORS).stat().st_size},
        "threshold as the share of zeros": {"zero_fraction": CompressingSubject.threshold},
        "loss as the perplexity": {"perplexity_before": float(torch.tensor(made.perplexity_before).log())},
        "perplexity after is that before": {"perplexity_after": made.perplexity_before},
        "no perplexity is a number": {"perplexity_before": nan, "perplexity_after": nan},
    }
