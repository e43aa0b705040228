import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTBigCodeConfig

from bitnet.checkpoint import digest_file
from tests.bitnet.cli.program import assert_one_sentence, bitnet, settings
from tests.bitnet.small_models import COMMON, model_from, small_tokenizer


def broken(folder: Path, target: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of a model with tensors replaced, or, where None is given, left out."""
    shutil.copytree(folder, target)
    stored = load_file(target / "model.safetensors")
    stored.update(tensors)
    kept = {name: tensor for name, tensor in stored.items() if tensor is not None}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


BAD_MODELS = {
    "missing": "nowhere",
    "nan": "model.layers.1.mlp.up_proj.weight",
    "incomplete": "model.layers.0.self_attn.q_proj.weight",
    "truncated": "model.safetensors",
    "unsupported": "gpt_bigcode",
    "not_a_model": "config.json",
    "picture.gguf": "picture.gguf",
}


@pytest.fixture(scope="module")
def bad_models(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("bad")
    broken(folder, path / "nan", **{"model.layers.1.mlp.up_proj.weight": torch.full((44, 32), float("nan"))})
    broken(folder, path / "incomplete", **{"model.layers.0.self_attn.q_proj.weight": None})
    shutil.copytree(folder, path / "truncated")
    weights = path / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    unsupported = GPTBigCodeConfig(**COMMON, n_embd=32, n_layer=1, n_head=4, n_positions=128)
    model_from(unsupported).save_pretrained(path / "unsupported")
    small_tokenizer().save_pretrained(path / "unsupported")
    (path / "not_a_model").mkdir()
    (path / "picture.gguf").write_bytes(b"\x89PNG" * 20)
    return path


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_cannot_be_compressed_is_one_sentence(name, bad_models, tmp_path):
    outcome = bitnet("compress", bad_models / name, "--out", tmp_path / "out")
    assert_one_sentence(outcome, str(bad_models / name) if name == "missing" else BAD_MODELS[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in BAD_MODELS if name != "unsupported"])
def test_a_model_that_cannot_run_is_one_sentence(name, bad_models, texts):
    named = str(bad_models / name) if name == "missing" else BAD_MODELS[name]
    assert_one_sentence(bitnet("eval", bad_models / name, "--text", texts / "evaluation.txt"), named)
    assert_one_sentence(bitnet("generate", bad_models / name, "the"), named)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--set", "codec=3bit"], ["codec = '3bit'", "one of int8, 2bit, base3"]),
        (["--set", "kodec=2bit"], ["unknown setting 'kodec'", "'codec'"]),
        (["--set", "codec"], ["'codec'", "key=value"]),
        (["--set", "seed=[1"], ["'seed'", "not valid YAML"]),
        (["--config", "absent.yaml"], ["absent.yaml", "cannot be read"]),
        (["--config", "bad.yaml"], ["bad.yaml", "not valid YAML"]),
        (["--config", "list.yaml"], ["list.yaml", "not a mapping"]),
        (["--set", "evaluation_text=absent.txt"], ["absent.txt", "No such file"]),
        (["--set", "evaluation_text=short.txt"], ["short.txt", "too short", "128 tokens"]),
        (["--set", "evaluation_text=empty.txt"], ["empty.txt", "is empty"]),
        (["--set", "evaluation_text=latin1.txt"], ["latin1.txt", "not UTF-8"]),
        (["--set", "calibration_text=short.txt"], ["The calibration text has", "calibration_tokens"]),
        (["--set", "context_length=4096"], ["4096", "128 positions"]),
    ],
    ids=lambda value: "-".join(value) if len(value) == 2 else None,
)
def test_a_bad_setting_or_text_is_one_sentence(arguments, fragments, folder, tmp_path, monkeypatch):
    files = {
        "bad.yaml": b"seed: [\n",
        "list.yaml": b"- 1\n",
        "short.txt": b"Too short.",
        "empty.txt": b" \n",
        "latin1.txt": b"caf\xe9",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    outcome = bitnet("compress", folder, "--out", "out", *arguments)
    assert_one_sentence(outcome, *fragments)
    assert {path.name for path in tmp_path.iterdir()} == files.keys()


def test_one_text_cannot_both_calibrate_and_evaluate(folder, texts, tmp_path):
    text = texts / "evaluation.txt"
    given = settings(calibration_text=text, evaluation_text=text)
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "out", *given), str(text), "evaluation text")


def test_an_output_that_is_there_is_not_replaced(folder, easy, tmp_path):
    _, earlier = easy
    before = digests(earlier)
    assert_one_sentence(bitnet("compress", folder, "--out", earlier), str(earlier), "--force")
    assert digests(earlier) == before
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("Dear diary")
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "diary", "--force"), "no earlier run")
    assert (tmp_path / "diary" / "monday.txt").read_text() == "Dear diary"


def test_an_output_that_is_a_file_is_one_sentence(folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "out"), str(tmp_path / "out"))
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "out" / "below"), str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_that_cannot_be_written_is_one_sentence(folder):
    assert_one_sentence(bitnet("compress", folder, "--out", "/proc/out"), "/proc/out", "choose a place")


def test_an_output_inside_the_model_is_one_sentence(folder):
    before = digests(folder)
    assert_one_sentence(bitnet("compress", folder, "--out", folder / "out"), str(folder), "--out")
    assert digests(folder) == before


def test_a_model_inside_the_output_is_one_sentence(easy):
    _, out = easy
    before = digests(out)
    outcome = bitnet("compress", out / "fp16", "--out", out, "--force")
    assert_one_sentence(outcome, str(out / "fp16"), "would be replaced")
    assert digests(out) == before


def test_a_packed_model_is_not_compressed_again(easy, tmp_path):
    outcome = bitnet("compress", easy[1] / "packed", "--out", tmp_path / "out")
    assert_one_sentence(outcome, "compressed already")


def digests(folder: Path) -> dict[Path, str]:
    return {path: digest_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
