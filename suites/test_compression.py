"""Compression: what the packed artefact of each audited model takes on disk, and what is stored in it.

Bytes are counted by the suite, over all files of the packed folder; `test_artifacts` shows that this folder alone is
enough to reload the model. Every codec, every file and every tokenizer counts: a ratio over the weights alone says
little about a model with a large vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.evidence import Evidence
from harness.oracles.quantization import ZERO_FRACTION_BAND
from harness.subject import NotApplicable, Packs, QuantizedWeight, Subject, require
from suites.fixtures_artifacts import Artifacts, Compress
from suites.small_architectures import save_small_model
from suites.stored_weights import stored_bytes, stored_weight
from suites.test_configuration import SIZE_TABLE

# --------------------------------------------------------------------------- bytes


@pytest.mark.criterion("1.1.compression-ratio", "1.2.compression-ratio")
def test_bytes_on_disk_against_full_precision(artifacts: Artifacts, evidence: Evidence) -> None:
    """4 bytes for each unique parameter over the bytes of all packed files, alone and over the size class's target."""
    parameters, packed = artifacts.reference.parameters, folder_bytes(artifacts.outcome.packed)
    target = size_target(parameters)
    ratios = {"whole model, FP32": 4 * parameters / packed, "whole model, FP16": 2 * parameters / packed}
    evidence.figure("compression_ratio", ratios["whole model, FP32"], "x")
    evidence.figure("ratio_over_target", ratios["whole model, FP32"] / target, "x")
    evidence.figure("compression_ratio_fp16", ratios["whole model, FP16"], "x")
    evidence.figure("packed_bytes", packed, "bytes")
    layers = stored_bytes(artifacts.outcome.packed, artifacts.weights)
    if layers is None:
        evidence.note("The quantized layers alone: not measured, the packed folder names no tensors after them.")
    else:
        ratios["quantized layers, FP32"] = quantized_parameter_bytes(artifacts) / layers
        evidence.figure("quantized_ratio", ratios["quantized layers, FP32"], "x")
    evidence.attach(
        "compression",
        {
            "plot": "bar",
            "title": f"Compression of {artifacts.reference.name}",
            "x": list(ratios),
            "y": {"full-precision bytes over packed bytes": list(ratios.values())},
            "x_label": "what is compared",
            "y_label": "ratio",
            "limits": {"target of its size class": target},
        },
    )
    assert packed > 0, "the packed folder is empty"


def size_target(parameters: int) -> float:
    """The ratio that the audit's table asks of a model with that many unique parameters."""
    return next(target for (_, last), _, target, _ in SIZE_TABLE.values() if parameters <= last)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def quantized_parameter_bytes(artifacts: Artifacts) -> int:
    """FP32 bytes of the quantized layers, biases included."""
    modules = (artifacts.reference.model.get_submodule(name) for name in artifacts.weights)
    return 4 * sum(int(parameter.numel()) for module in modules for parameter in module.parameters())


@pytest.mark.criterion("2.int8-storage")
def test_a_layer_of_the_artefact_stored_as_int8(subject: Subject, artifacts: Artifacts, evidence: Evidence) -> None:
    """The largest layer: a byte for each code and the scales as they are, against float32; the codes come back."""
    if "int8" not in subject.declaration.codecs:
        raise NotApplicable("the subject declares no int8 codec")
    packs = require(subject, Packs)
    name, weight = max(artifacts.weights.items(), key=lambda layer: layer[1].codes.numel())
    packed = [packs.pack(plane.codes, "int8") for plane in weight.planes]
    stored = sum(plane.nbytes for plane in packed) + sum(plane.scale.nbytes for plane in weight.planes)
    evidence.figure("int8_storage_ratio", 4 * weight.codes.numel() / stored, "x")
    evidence.note(f"{name}: {4 * weight.codes.numel():,} bytes as float32, {stored:,} as int8 with its scales")
    for plane, data in zip(weight.planes, packed, strict=True):
        assert torch.equal(packs.unpack(data, "int8", plane.codes.shape[1]), plane.codes)


# --------------------------------------------------------------------------- codes


@pytest.mark.criterion("1.1.sparsity-injection", "1.2.sparsity-injection")
def test_zero_fraction_of_the_stored_codes(artifacts: Artifacts, evidence: Evidence) -> None:
    """Over all quantized weights of the model; the plot shows that no layer hides behind the others."""
    fractions = [zeros(weight) / codes(weight) for weight in artifacts.weights.values()]
    evidence.figure("zero_fraction", stored_zero_fraction(artifacts.weights))
    evidence.figure("lowest_layer_zero_fraction", min(fractions))
    evidence.figure("highest_layer_zero_fraction", max(fractions))
    low, high = map(float, ZERO_FRACTION_BAND)
    evidence.attach(
        "zero-fraction-by-layer",
        {
            "plot": "line",
            "title": f"Zero codes in each quantized layer of {artifacts.reference.name}",
            "x": list(range(1, len(fractions) + 1)),
            "y": {"stored codes": fractions},
            "x_label": "quantized layer",
            "y_label": "fraction of zero codes",
            "limits": {"5 %": low, "45 %": high},
        },
    )
    assert fractions, "the artefact has no quantized layer"


def stored_zero_fraction(weights: Mapping[str, QuantizedWeight]) -> float:
    return sum(map(zeros, weights.values())) / sum(map(codes, weights.values()))


def codes(weight: QuantizedWeight) -> int:
    return sum(plane.codes.numel() for plane in weight.planes)


def zeros(weight: QuantizedWeight) -> int:
    return codes(weight) - sum(int(plane.codes.count_nonzero()) for plane in weight.planes)


@pytest.mark.criterion("2.ternary-quantization")
def test_stored_codes_are_ternary_and_use_all_three(artifacts: Artifacts) -> None:
    """In every layer: codes that are all zero would pass for "a subset of {-1, 0, 1}"."""
    assert artifacts.weights, "the artefact has no quantized layer"
    for name, weight in ((name, plane) for name, stored in artifacts.weights.items() for plane in stored.planes):
        assert weight.codes.dtype == torch.int8, f"{name}: codes of type {weight.codes.dtype}"
        used = set(np.unique(weight.codes.numpy()).tolist())
        assert used == {-1, 0, 1}, f"{name}: codes {sorted(used)}"
        assert torch.isfinite(weight.scale).all(), f"{name}: a scale is not finite"
        assert (weight.scale >= 0).all(), f"{name}: a scale is negative"
        assert weight.scale.any(), f"{name}: every scale is zero"


@pytest.mark.criterion("2.ternary-quantization")
def test_the_reloaded_model_runs_on_the_stored_codes(subject: Subject, artifacts: Artifacts) -> None:
    """Each unit vector through each layer of the reloaded model gives the column of scale x codes, and its bias.

    The weights that a layer shows and those that it runs on can differ, so the layer is asked, and not its attributes.
    Slack: quantizing a unit vector to integers and back, and adding a bias, are off by a rounding each.
    """
    for name, weight in artifacts.weights.items():
        expected = stored_weight(subject, weight)
        measured = columns(artifacts.packed.get_submodule(name), expected.shape[1])
        largest = expected.abs().max()
        assert measured.shape == expected.shape, f"{name} maps {tuple(measured.shape)}, codes {tuple(expected.shape)}"
        off = float((measured - expected).abs().max() / largest)
        assert off <= 1e-6, f"{name} runs on weights that differ from its codes by {off:.1e} of the largest"


@torch.no_grad()
def columns(layer: nn.Module, width: int) -> Tensor:
    """The matrix [out, in] that a layer applies, by its action on unit vectors."""
    bias = layer(torch.zeros(1, width))
    return torch.cat([layer(part) - bias for part in torch.split(torch.eye(width), 256)]).T


# --------------------------------------------------------------------------- reproducibility


@pytest.mark.criterion("A.reproducible")
def test_the_same_seed_gives_the_same_bytes(
    compress: Compress, evaluation_file: Path, seed: int, tmp_path: Path
) -> None:
    """Calibration, a few steps of recovery, both artefacts: twice in one process, whatever else drew random numbers."""
    model = save_small_model(tmp_path / "model", "llama", tied=True)
    overrides = {"calibration_samples": "8", "fine_tune_steps": "3", "seed": str(seed)}
    outcomes = []
    for attempt in (1, 2):
        torch.manual_seed(attempt)
        outcomes.append(compress(f"attempt-{attempt}", model, {**overrides, "evaluation_text": str(evaluation_file)}))
    first, second = (
        {"packed": read_folder(outcome.packed), "dequantized": read_folder(outcome.dequantized)} for outcome in outcomes
    )
    assert differing_files(first, second) == []
    assert all(folder for folder in first.values()), "an artefact has no files"


def read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def differing_files(first: Mapping[str, dict[str, bytes]], second: Mapping[str, dict[str, bytes]]) -> list[str]:
    return [
        f"{kind}/{name}"
        for kind in first
        for name in sorted(first[kind].keys() | second[kind].keys())
        if first[kind].get(name) != second[kind].get(name)
    ]
