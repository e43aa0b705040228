from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from harness.mutants.reference import sparing_command
from harness.mutants.reference.sparing import SparingSubject
from harness.mutants.reference.sparing_command import main
from suites.small_models import save_random_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "model", layers=1)


def compress(model: Path, out: Path, defect: str = "", *words: str) -> int:
    return main(defect, ["compress", str(model), *words, "--out", str(out)])


def test_codes_take_two_bits_and_come_back(model: Path, tmp_path: Path) -> None:
    assert compress(model, tmp_path / "out") == 1
    weights = SparingSubject().quantized_weights(tmp_path / "out" / "packed")
    stored, given = load_file(tmp_path / "out" / "packed" / "model.safetensors"), load_file(model / "model.safetensors")
    assert len(weights) == 7
    for name, weight in weights.items():
        assert 4 * stored[f"{name}.codes"].size == weight.codes.numel()
        latent = given[f"{name}.weight"]
        scale = np.abs(latent).mean(axis=1, keepdims=True)
        near = np.abs(np.abs(latent) - scale / 2) < 1e-3 * scale  # scales are rounded to float16
        assert np.array_equal(weight.codes.numpy()[~near], np.rint(np.clip(latent / scale, -1, 1))[~near])


def test_the_packed_model_is_the_plain_one(model: Path, tmp_path: Path) -> None:
    compress(model, tmp_path / "out")
    packed, tokenizer = SparingSubject().load_packed(tmp_path / "out" / "packed")
    weight = SparingSubject().quantized_weights(tmp_path / "out" / "packed")["model.layers.0.mlp.up_proj"]
    expected = weight.codes.float() * weight.scale
    assert torch.equal(packed.get_parameter("model.layers.0.mlp.up_proj.weight"), expected)
    assert tokenizer.encode("a")


def test_a_byte_for_each_code(model: Path, tmp_path: Path) -> None:
    compress(model, tmp_path / "out", "a byte for each code")
    weights = SparingSubject().quantized_weights(tmp_path / "out" / "packed")
    stored = load_file(tmp_path / "out" / "packed" / "model.safetensors")
    assert all(stored[f"{name}.codes"].size == weight.codes.numel() for name, weight in weights.items())


@pytest.mark.parametrize(
    ("defect", "words", "spoilt"),
    [
        ("noise", (), True),
        ("recovery spoils it", SparingSubject().sparing_words(False, True), True),
        ("recovery spoils it", SparingSubject().sparing_words(False, False), False),
        ("one plane is noise", SparingSubject().sparing_words(True, False), True),
        ("one plane is noise", SparingSubject().sparing_words(False, False), False),
    ],
)
def test_noise_is_made_where_it_is_asked_for(
    model: Path, tmp_path: Path, defect: str, words: tuple[str, ...], spoilt: bool
) -> None:
    compress(model, tmp_path / "out", defect, *words)
    norm, given = (load_file(f / "model.safetensors")["model.norm.weight"] for f in (tmp_path / "out" / "plain", model))
    assert np.allclose(norm, given) is not spoilt


def test_what_else_can_be_wrong(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compress(model, tmp_path / "none", "no artefact") == 1
    assert not (tmp_path / "none" / "packed").exists()
    assert compress(model, tmp_path / "broken", "breaks down") == 3
    assert "nothing to be done" in capsys.readouterr().err
    slept = []
    monkeypatch.setattr(sparing_command.time, "sleep", slept.append)
    compress(model, tmp_path / "slow", "takes its time")
    assert slept == [sparing_command.SECONDS["takes its time"]]
