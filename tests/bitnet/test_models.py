import dataclasses
import math
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects

from bitnet import models
from bitnet.artifacts import save_fp16, save_packed
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.huggingface import save_folder
from bitnet.models import check_weights, count_parameters, load_model
from tests.bitnet.small_gguf import write_gguf
from tests.bitnet.small_models import small_model, small_tokenizer

TOKENS = torch.arange(2, 34).reshape(2, 16)


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    save_folder(small_model("llama"), small_tokenizer(), path)
    return path


@pytest.fixture
def run_output(tmp_path):
    """What a run leaves behind: out/packed and out/fp16."""
    compressed = CompressedModel.from_model(small_model("llama"), Phase4Config().resolved(1000)).packed()
    for part in ("packed", "fp16"):
        (tmp_path / "out" / part).mkdir(parents=True)
    save_packed(compressed, small_tokenizer(), tmp_path / "out" / "packed")
    save_fp16(compressed.dequantized(), small_tokenizer(), tmp_path / "out" / "fp16")
    return tmp_path / "out", compressed.model


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that cannot be reached, with an empty cache of what was downloaded before."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


# ----------------------------------------------------------------- what can be given


def test_a_folder(folder):
    loaded = load_model(str(folder))
    assert torch.equal(logits(loaded.model), logits(small_model("llama")))
    assert (loaded.kind, loaded.path, loaded.source) == ("folder", folder, str(folder))
    assert loaded.tokenizer("the cat")["input_ids"] == small_tokenizer()("the cat")["input_ids"]
    assert not loaded.model.training
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.kind = "hub"


def test_a_folder_in_another_dtype(folder):
    assert load_model(str(folder), torch.bfloat16).model.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["model.gguf", "model.bin"])
def test_a_gguf_file_is_known_by_its_content(name, tmp_path):
    file = write_gguf(tmp_path / name, small_model("llama"), small_tokenizer())
    loaded = load_model(str(file))
    assert torch.equal(logits(loaded.model), logits(small_model("llama")))
    assert (loaded.kind, loaded.path) == ("gguf", file)


def test_a_packed_folder_gives_the_model_that_runs_on_its_codes(run_output):
    out, model = run_output
    loaded = load_model(str(out / "packed"))
    assert torch.equal(logits(loaded.model), logits(model))
    assert (loaded.kind, loaded.path) == ("packed", out / "packed")
    assert loaded.model.dtype == torch.float32
    with pytest.raises(BitnetError, match="is a packed model, which runs in float32 only"):
        load_model(str(out / "packed"), torch.float16)


def test_the_fp16_output_is_an_ordinary_folder(run_output):
    assert load_model(str(run_output[0] / "fp16")).kind == "folder"


@pytest.mark.parametrize("name", ["tiny", "smollm2-135m"])
def test_a_builtin_name_comes_before_a_folder_of_that_name(name, folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(models, "materialise", lambda given: asked.append(given) or folder)
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    loaded = load_model(name)
    assert (loaded.kind, loaded.path, loaded.source) == ("builtin", folder, name)
    assert asked == [name]


def test_a_hub_id_that_was_downloaded_before_needs_no_hub(hub):
    snapshot = hub / "models--owner--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save_folder(small_model("llama"), small_tokenizer(), snapshot)
    (hub / "models--owner--name" / "refs").mkdir()
    (hub / "models--owner--name" / "refs" / "main").write_text("0" * 40)
    loaded = load_model("owner/name")
    assert torch.equal(logits(loaded.model), logits(small_model("llama")))
    assert (loaded.kind, loaded.path, loaded.source) == ("hub", snapshot, "owner/name")


def test_only_what_is_needed_is_downloaded_and_nothing_pickled(folder, monkeypatch):
    wanted = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"]
    wanted += ["generation_config.json", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"]
    unwanted = ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "modeling_llama.py", "tf_model.h5"]
    unwanted += ["onnx/model.onnx", "onnx/config.json", "original/consolidated.safetensors", "README.md", "a.gguf"]
    kept = []

    def download(name, **patterns):
        assert name == "owner/name"
        kept.extend(filter_repo_objects(wanted + unwanted, **patterns))
        return str(folder)

    monkeypatch.setattr(models, "snapshot_download", download)
    load_model("owner/name")
    assert kept == wanted


# ----------------------------------------------------------------- what cannot


def test_a_hub_that_cannot_be_reached_is_one_sentence(hub):
    with pytest.raises(BitnetError, match="no file or folder 'owner/name', and the hub gives no such model") as error:
        load_model("owner/name")
    assert "\n" not in str(error.value)
    assert "a Hugging Face folder, a .gguf file, a hub id" in str(error.value)


def test_a_model_of_the_hub_without_safetensors_is_one_sentence(folder, monkeypatch):
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(models, "snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(BitnetError, match=r"The hub's model owner/name cannot be used: .*no safetensors weights"):
        load_model("owner/name")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("smollm2", "smollm2-135m"),
        ("SmolLM2-135M", "smollm2-135m"),
        ("smollm-135m", "smollm2-135m"),
        ("Tiny", "tiny"),
        ("tinny", "tiny"),
    ],
)
def test_a_near_miss_of_a_builtin_name_is_answered_with_the_name(name, near):
    with pytest.raises(BitnetError, match=rf"no model '{name}': did you mean {near}\?"):
        load_model(name)


@pytest.mark.parametrize("name", ["gpt2", "a/b/c", "/nowhere/at/all", "model.gguf", "owner/", "-x/y", "näme/x"])
def test_any_other_name_is_answered_with_what_can_be_given(name):
    accepted = (
        r"a model is a Hugging Face folder, a \.gguf file, a hub id \(OWNER/NAME\) or one of smollm2-135m, tiny\."
    )
    with pytest.raises(BitnetError, match=f"There is no model '{name}': {accepted}"):
        load_model(name)


def test_the_output_folder_of_a_run_is_answered_with_the_models_in_it(run_output):
    out, _ = run_output
    with pytest.raises(
        BitnetError, match=f"is the output folder of a run, not a model: give {out}/packed or {out}/fp16"
    ):
        load_model(str(out))


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(BitnetError, match=rf"{tmp_path} has no config\.json"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a pickle in a zip"])
def test_a_file_that_is_no_gguf_is_named(content, tmp_path):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(BitnetError, match=r"model\.gguf is not a GGUF file: give a \.gguf file or the folder"):
        load_model(str(tmp_path / "model.gguf"))


def test_a_path_that_cannot_even_be_looked_up_is_one_sentence():
    with pytest.raises(BitnetError, match=r"Cannot read the model x+ \(File name too long\)"):
        load_model("x" * 300)


def test_truncated_files_are_one_sentence(folder, tmp_path):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(BitnetError, match=r"Cannot load the model .*check that it is complete"):
        load_model(str(folder))
    file = write_gguf(tmp_path / "model.gguf", small_model("llama"), small_tokenizer())
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BitnetError, match=r"Cannot load the model .*check that it is complete"):
        load_model(str(file))


# ----------------------------------------------------------------- weights and parameters


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_weight_that_is_not_finite_is_named(value):
    model = small_model("llama")
    check_weights(model)
    with torch.no_grad():
        model.model.norm.weight[3] = value
        model.model.layers[1].mlp.up_proj.weight[0, 0] = value
    with pytest.raises(BitnetError, match=r"'model\.layers\.1\.mlp\.up_proj\.weight' holds NaN or infinite values"):
        check_weights(model)


def test_opposite_infinities_and_large_finite_values_are_told_apart():
    layer = torch.nn.Linear(4, 4).half()
    with torch.no_grad():
        layer.weight.fill_(60_000.0)
    assert not layer.weight.sum().isfinite()
    check_weights(layer)
    with torch.no_grad():
        layer.weight[0, :2] = torch.tensor([math.inf, -math.inf])
    with pytest.raises(BitnetError, match="'weight'"):
        check_weights(layer)


def test_scales_of_packed_layers_are_checked_and_their_codes_are_not_numbers(run_output):
    _, model = run_output
    check_weights(model)
    model.model.layers[0].mlp.down_proj.scale[0, 1] = math.nan
    with pytest.raises(BitnetError, match=r"'model\.layers\.0\.mlp\.down_proj\.scale'"):
        check_weights(model)


def test_tied_parameters_count_once():
    tied, untied = small_model("llama"), small_model("qwen2")
    assert count_parameters(tied) == sum(p.numel() for p in tied.model.parameters())
    assert count_parameters(untied) == sum(p.numel() for p in untied.model.parameters()) + 288 * 32
