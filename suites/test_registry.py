"""Model registry: a compressed model is pushed, found again, promoted or refused, and fetched to the last byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers import PreTrainedModel

from harness.subject import CompressesModels, HandsOver, RegistersModels, Subject, require
from harness.subject_ecosystem import ModelRegistry
from suites.fixtures_small import SmallCompression, SmallFiles
from suites.small_models import save_random_llama

NAME = "small"
SCORECARD = {"schema_version": 1, "overall": {"score": 0.5}, "criteria": []}

WIDTH, SCALE = 128, 1e-3

registers = pytest.mark.criterion("2.model-registry", "6.nice.model-registry")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that everything of the registry is in."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(subject: Subject, place: Path) -> ModelRegistry:
    return require(subject, RegistersModels).open_registry(place)


@pytest.fixture(scope="module")
def pushed(registry: ModelRegistry, small_compression: SmallCompression) -> ModelRegistry:
    """The registry with one version in it; checks leave the files of it as they are."""
    version = registry.push(small_compression.out, NAME)
    assert (version.name, version.version) == (NAME, 1)
    return registry


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@registers
def test_a_version_tells_gates_digests_and_lineage(
    subject: Subject, small: SmallFiles, small_compression: SmallCompression, pushed: ModelRegistry
) -> None:
    """As the output's own manifest has them."""
    hands_over = require(subject, HandsOver)
    manifest: Any = hands_over.check_phase5(small_compression.out)
    (version,) = pushed.versions(NAME)
    assert version.gates == {gate["name"]: gate["passed"] for gate in manifest["gates"]}
    file = small_compression.out / hands_over.manifest_files[1]
    assert version.digests["manifest"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert str(small.model) in version.lineage["phase3"]
    assert version.lineage["phase5"]
    assert not version.promoted


@registers
def test_the_same_artefact_is_registered_once(
    small_compression: SmallCompression, pushed: ModelRegistry, tmp_path: Path
) -> None:
    """Also where an audit's scorecard comes later: it goes to the version that is there."""
    assert pushed.push(small_compression.out, NAME).version == 1
    scorecard = tmp_path / "scorecard.json"
    scorecard.write_text(json.dumps(SCORECARD))
    again = pushed.push(small_compression.out, NAME, scorecard)
    assert again.version == 1
    assert again.digests.get("scorecard") == hashlib.sha256(scorecard.read_bytes()).hexdigest()
    assert len(pushed.versions(NAME)) == 1


@registers
def test_a_gate_that_failed_cannot_be_promoted(pushed: ModelRegistry) -> None:
    """The small model is too small for its compression target, so that it misses one at least."""
    (version,) = pushed.versions(NAME)
    assert not all(version.gates.values()), "the small compression misses no gate"
    with pytest.raises(ValueError, match="|".join(name for name, passed in version.gates.items() if not passed)):
        pushed.promote(NAME, 1)
    assert not any(version.promoted for version in pushed.versions(NAME))


@registers
def test_what_passed_every_gate_is_promoted_and_found(
    passing: SmallCompression, registry: ModelRegistry, tmp_path: Path
) -> None:
    number = registry.push(passing.out, "passing").version
    registry.promote("passing", number)
    (version,) = registry.versions("passing")
    assert all(version.gates.values())
    assert version.promoted
    registry.fetch("passing", None, tmp_path / "fetched")
    assert digests(tmp_path / "fetched") == digests(passing.out)


@pytest.fixture(scope="module")
def passing(subject: Subject, small: SmallFiles, tmp_path_factory: pytest.TempPathFactory) -> SmallCompression:
    """A model that ternary weights lose nothing of, so that its compression can pass every gate."""
    root = tmp_path_factory.mktemp("passing")
    model = save_random_llama(root / "model", width=WIDTH, change=make_ternary)
    out = root / "out"
    outcome = require(subject, CompressesModels).compress(model, out, small.overrides)
    gates: Any = outcome.result["gates"]
    missed = [gate["name"] for gate in gates if not gate["passed"]]
    assert not missed, f"a model whose weights are ternary already misses {missed}"
    return SmallCompression(out, outcome)


def make_ternary(model: PreTrainedModel) -> None:
    """Round each projection to codes times one scale a row, small enough for the embedding to decide what follows."""
    for module in model.model.layers.modules():
        if isinstance(module, nn.Linear):
            codes = module.weight.sign() * (module.weight.abs() > module.weight.abs().mean() / 2)
            module.weight.data = SCALE * codes


@registers
def test_what_is_fetched_is_what_was_pushed_and_loads(
    subject: Subject, small_compression: SmallCompression, pushed: ModelRegistry, tmp_path: Path
) -> None:
    pushed.fetch(NAME, 1, tmp_path / "fetched")
    assert digests(tmp_path / "fetched") == digests(small_compression.out)
    packed = tmp_path / "fetched" / small_compression.outcome.packed.relative_to(small_compression.out)
    assert require(subject, CompressesModels).load_packed(packed)[0] is not None


@registers
def test_damage_in_the_registry_is_not_handed_out(pushed: ModelRegistry, place: Path, tmp_path: Path) -> None:
    """Every file of weights that the registry keeps loses a bit for a while."""
    stored = {path: path.read_bytes() for path in place.rglob("*.safetensors")}
    assert stored, "the registry keeps no files of weights in its folder"
    for path, content in stored.items():
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(ValueError, match="safetensors"):
            pushed.fetch(NAME, 1, tmp_path / "fetched")
    finally:
        for path, content in stored.items():
            path.write_bytes(content)
    assert not (tmp_path / "fetched").exists()
    pushed.fetch(NAME, 1, tmp_path / "fetched")
