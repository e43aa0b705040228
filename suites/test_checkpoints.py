"""Checkpoints of fine-tuning: what is interrupted ends as if it had not been, and damage is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.evidence import Evidence
from harness.subject import CompressesModels, ResumesFineTuning, Subject, require
from harness.texts import held_out_text
from suites.fixtures_small import SmallFiles
from suites.resumed_training import resume_in_fresh_process
from suites.small_models import byte_tokenizer, save_random_llama

pytestmark = pytest.mark.criterion("2.checkpoints")

SAMPLES, TOKENS = 10, 24
STEPS, KILLED_AFTER = 9, 5
"""The state is written after three steps and after six: two steps are lost, and four are left when it is resumed."""


@pytest.fixture(scope="module")
def packed(subject: Subject, small: SmallFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed model whose attention drops weights at random in training."""
    folder = tmp_path_factory.mktemp("dropout")

    def drop(model: PreTrainedModel) -> None:
        model.config.attention_dropout = 0.2

    require(subject, ResumesFineTuning)
    model = save_random_llama(folder / "model", seed=4, change=drop)
    return require(subject, CompressesModels).compress(model, folder / "out", small.overrides).packed


@pytest.fixture(scope="module")
def samples() -> Tensor:
    """Int64 token ids, [SAMPLES, TOKENS]."""
    tokens = byte_tokenizer().encode(held_out_text()[: 2 * SAMPLES * TOKENS])[: SAMPLES * TOKENS]
    return torch.tensor(tokens).reshape(SAMPLES, TOKENS)


@pytest.fixture(scope="module")
def uninterrupted(
    subject: Subject, packed: Path, samples: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    """The parameters at the end of a training that nothing disturbs."""
    return finish(subject, packed, samples, tmp_path_factory.mktemp("whole") / "state")


@pytest.fixture(scope="module")
def interrupted(subject: Subject, packed: Path, samples: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a training leaves which is killed. Checks work on copies of it."""
    folder = tmp_path_factory.mktemp("killed") / "state"
    stopped = require(subject, ResumesFineTuning).fine_tune_resumably(packed, samples, STEPS, folder, KILLED_AFTER)
    assert stopped is None, "the training went on after it should have stopped"
    return folder


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    subject: Subject,
    packed: Path,
    samples: Tensor,
    uninterrupted: dict[str, Tensor],
    interrupted: Path,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    evidence: Evidence,
) -> None:
    """Every parameter, bit for bit, with dropout and shuffled samples, after it was resumed in a fresh process."""
    assert require(subject, ResumesFineTuning)
    folder = Path(shutil.copytree(interrupted, tmp_path / "state"))
    resumed = resume_in_fresh_process(pytestconfig.getoption("--subject"), packed, samples, STEPS, folder)
    assert resumed.keys() == uninterrupted.keys()
    distances = {name: float((resumed[name] - value).abs().max()) for name, value in uninterrupted.items()}
    evidence.figure("largest_difference_after_resuming", max(distances.values()))
    different = [name for name, value in uninterrupted.items() if not torch.equal(resumed[name], value)]
    assert not different, f"{len(different)} of {len(distances)} parameters differ, by up to {max(distances.values())}"


def test_training_changes_what_is_compared(subject: Subject, packed: Path, uninterrupted: dict[str, Tensor]) -> None:
    """A training without an effect would resume perfectly."""
    before = parameters(require(subject, CompressesModels).load_trainable(packed))
    assert any(not torch.equal(value, before[name]) for name, value in uninterrupted.items() if name in before)


@pytest.mark.parametrize("damage", ["bit", "end"])
def test_damage_is_noticed(
    subject: Subject, packed: Path, samples: Tensor, interrupted: Path, tmp_path: Path, damage: str
) -> None:
    """One bit of the largest file of the state is flipped, or its last bytes are missing."""
    folder = Path(shutil.copytree(interrupted, tmp_path / "state"))
    largest = max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    if damage == "bit":
        content[len(content) * 2 // 3] ^= 1
    largest.write_bytes(content[:-7] if damage == "end" else content)
    try:
        finish(subject, packed, samples, folder)
    except Exception:  # any error will do: what it says is for the command line's checks
        return
    raise AssertionError(f"a training went on from a state whose file {largest.name} was damaged")


def test_state_holds_data_alone(subject: Subject, interrupted: Path) -> None:
    """No file of it is a pickle, which could run code when it is read."""
    assert require(subject, ResumesFineTuning)
    files = [file for file in interrupted.rglob("*") if file.is_file()]
    assert files, "there is no state"
    for file in files:
        start = file.read_bytes()[:4]
        assert not start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")), file.name


def finish(subject: Subject, packed: Path, samples: Tensor, folder: Path) -> dict[str, Tensor]:
    """The parameters at the end of the training whose state is in `folder`."""
    model = require(subject, ResumesFineTuning).fine_tune_resumably(packed, samples, STEPS, folder, None)
    assert model is not None, "the training has stopped without being told to"
    return parameters(model)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Copies."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
