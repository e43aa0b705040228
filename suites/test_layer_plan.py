"""Layer-wise precision: which modules a subject quantizes, which it preserves, and whether its artefact does the same.

The reference is derived from the model itself (`harness.oracles.architecture`): every linear map inside a decoder block
is quantized; embeddings, positions, head, norms and whatever stands outside the blocks are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.evidence import Evidence
from harness.oracles.architecture import block_projections, matrix, parameter_carriers
from harness.subject import CompressesModels, Subject, require
from suites.fixtures_artifacts import Artifacts, Compress
from suites.fixtures_models import ReferenceModel
from suites.small_architectures import ARCHITECTURES, save_small_model, small_model
from suites.stored_weights import preserved_parameters, stored_weight, value_at

preserves_precision = pytest.mark.criterion("2.precision-preservation")
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
heads = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])

Plan = Sequence[tuple[str, bool, str]]

LEAST_LIKENESS = 0.5
"""Ternary codes of Gaussian weights have a cosine of some 0.9 with them; those of the transpose have none."""


def plan_of(subject: Subject, model: PreTrainedModel) -> Plan:
    return require(subject, CompressesModels).layer_plan(model)


# --------------------------------------------------------------------------- the plan


@preserves_precision
@every_architecture
@heads
def test_plan_of_every_architecture_is_complete(subject: Subject, architecture: str, tied: bool) -> None:
    model = small_model(architecture, tied)
    assert_complete(plan_of(subject, model), model)


@preserves_precision
@every_architecture
@heads
def test_plan_of_every_architecture_quantizes_the_block_projections(
    subject: Subject, architecture: str, tied: bool
) -> None:
    model = small_model(architecture, tied)
    assert_quantizes_projections(plan_of(subject, model), model)


@preserves_precision
def test_plan_of_the_audited_model(subject: Subject, reference: ReferenceModel, evidence: Evidence) -> None:
    plan = plan_of(subject, reference.model)
    evidence.figure("quantized_layers", sum(quantized for _, quantized, _ in plan))
    evidence.figure("preserved_layers", sum(not quantized for _, quantized, _ in plan))
    assert_complete(plan, reference.model)
    assert_quantizes_projections(plan, reference.model)


def assert_complete(plan: Plan, model: PreTrainedModel) -> None:
    """Every module with parameters once, with a reason; a head that shares its embedding's may be left out."""
    carriers = parameter_carriers(model)
    names = [name for name, _, _ in plan]
    assert [name for name, count in Counter(names).items() if count > 1] == [], "listed twice"
    assert [name for name in names if name not in carriers] == [], "listed, but without parameters of its own"
    covered = {id(parameter) for name in names for parameter in carriers[name]}
    head = model.get_output_embeddings()
    for name in carriers.keys() - set(names):
        shared = model.get_submodule(name) is head and all(id(parameter) in covered for parameter in carriers[name])
        assert shared, f"{name} has parameters and is not listed"
    assert [name for name, _, reason in plan if not reason.strip()] == [], "listed without a reason"


def assert_quantizes_projections(plan: Plan, model: PreTrainedModel) -> None:
    """All of the linear maps inside the blocks, and nothing else."""
    quantized = {name for name, chosen, _ in plan if chosen}
    expected = set(block_projections(model))
    assert expected - quantized == set(), "a projection inside a block keeps its precision"
    assert quantized - expected == set(), "quantized, and no projection inside a block"


# --------------------------------------------------------------------------- the artefact


@preserves_precision
def test_artefact_agrees_with_the_plan(subject: Subject, artifacts: Artifacts) -> None:
    """The layers that the plan quantizes are stored as codes of the original's shape, and no others are."""
    original = artifacts.reference.model
    planned = [name for name, quantized, _ in plan_of(subject, original) if quantized]
    assert sorted(artifacts.weights) == sorted(planned)
    for name, weight in artifacts.weights.items():
        assert weight.codes.shape == matrix(original.get_submodule(name)).shape, name


def artefact_cases() -> pytest.MarkDecorator:
    """Every architecture and head in the full profile; the one least like the others in the quick one."""
    full = [pytest.mark.profile("full")]
    return pytest.mark.parametrize(
        ("architecture", "tied"),
        [
            pytest.param(
                architecture,
                tied,
                id=f"{architecture}-{'tied' if tied else 'untied'}",
                marks=[] if (architecture, tied) == ("gpt2", False) else full,
            )
            for architecture in ARCHITECTURES
            for tied in (True, False)
        ],
    )


@preserves_precision
@artefact_cases()
def test_preserved_layers_keep_half_precision(
    subject: Subject, compress: Compress, evaluation_file: Path, tmp_path: Path, architecture: str, tied: bool
) -> None:
    """Compressed without recovery: what is not quantized is the original's value, rounded to FP16 at most.

    The folder that was compressed is gone by the time the artefact is read.
    """
    folder = save_small_model(tmp_path / "model", architecture, tied)
    original = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    overrides = {"calibration_samples": "8", "fine_tune_steps": "0", "evaluation_text": str(evaluation_file)}
    outcome = compress(f"preserved-{architecture}-{tied}", folder, overrides)
    folder.rename(tmp_path / "away")
    capable = require(subject, CompressesModels)
    weights, packed = capable.quantized_weights(outcome.packed), capable.load_packed(outcome.packed)[0]
    assert set(weights) == set(block_projections(original))
    for name, value in preserved_parameters(original, weights).items():
        kept = value_at(packed, name).float()
        assert kept.shape == value.shape, name
        assert ((kept == value) | (kept == value.half().float())).all(), f"{name} is not the original's value in FP16"
    for name, weight in weights.items():
        likeness = cosine(stored_weight(subject, weight), matrix(original.get_submodule(name)))
        assert likeness > LEAST_LIKENESS, f"{name}: cosine {likeness:.2f} with the original, as [out, in]"


def cosine(left: Tensor, right: Tensor) -> float:
    assert left.shape == right.shape, f"{tuple(left.shape)} for {tuple(right.shape)}"
    return float(torch.cosine_similarity(left.flatten().double(), right.flatten().double(), dim=0))
