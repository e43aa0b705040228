import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitnet import streamed_compressor, streamed_folder
from bitnet.config import Phase4Config
from bitnet.dual_output import load_fp16
from bitnet.errors import BitnetError
from bitnet.result import without_times
from bitnet.streamed_compressor import streamable_settings, streams
from tests.bitnet.phase4 import LENIENT, finish, write_model, write_texts

#: Every kind of tensor that the files can hold.
OTHER = {
    "rule": "absmean",
    "granularity": "group",
    "group_size": 16,
    "codec": "base3",
    "embedding_dtype": "int8",
    "scale_dtype": "uint8",
    "planes": 2,
}


def both(tmp_path, architecture, **settings):
    """The same run on a model that is held and on one that is streamed."""
    settings = {**LENIENT, **write_texts(tmp_path), "fine_tune_steps": 0, **settings}
    model = write_model(tmp_path / "model", architecture)
    return [finish(model, tmp_path / way, streaming=way, **settings) for way in ("never", "always")]


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("llama", {}),
        ("llama", {"embedding_dtype": "int6"}),
        ("qwen2", OTHER),
        ("gpt2", {"granularity": "tensor", "rule": "threshold"}),
        ("opt", OTHER),
    ],
)
def test_a_streamed_model_gives_the_same_bytes_and_figures(tmp_path, architecture, settings):
    held, streamed = both(tmp_path, architecture, **settings)
    for part in ("packed", "fp16"):
        names = sorted(path.name for path in (held.out / part).iterdir())
        assert names == sorted(path.name for path in (streamed.out / part).iterdir())
        for name in names:
            assert (held.out / part / name).read_bytes() == (streamed.out / part / name).read_bytes(), name
    told = [without_times(run.result.model_dump(mode="json")) for run in (held, streamed)]
    assert [key for key in told[0] if told[0][key] != told[1][key]] == ["command", "config"]
    assert streamed.result.success


def test_shards_are_read_and_written(tmp_path, monkeypatch):
    model = write_model(tmp_path / "model", "qwen2")
    tensors = load_file(model / "model.safetensors")
    homes = {name: f"part-{number % 3}.safetensors" for number, name in enumerate(tensors)}
    for home in set(homes.values()):
        save_file({name: tensors[name].bfloat16() for name in tensors if homes[name] == home}, model / home)
    (model / "model.safetensors").unlink()
    (model / streamed_folder.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    monkeypatch.setattr(streamed_compressor, "MAX_SHARD", 20_000)
    settings = {**LENIENT, **write_texts(tmp_path), "fine_tune_steps": 0}
    held, streamed = (finish(model, tmp_path / way, streaming=way, **settings) for way in ("never", "always"))
    assert len(list((streamed.out / "fp16").glob("*.safetensors"))) > 2
    one, other = (load_fp16(run.out / "fp16")[0].state_dict() for run in (held, streamed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_needs_the_whole_model_is_left_out_and_told():
    settings, rows = streamable_settings(Phase4Config(), 10**9)
    resolved = settings.resolved(10**9)
    assert (resolved.compensation, resolved.fine_tune_steps, resolved.rule) == ("none", 0, "optimal")
    assert [(row.step, row.used) for row in rows] == [("compensation", "none"), ("fine_tune_steps", "0")]


@pytest.mark.parametrize("asked", [{"compensation": "sequential"}, {"fine_tune_steps": 5}, {"max_minutes": 1.0}])
def test_what_needs_the_whole_model_is_refused_where_it_is_asked_for(asked):
    with pytest.raises(BitnetError, match="or streaming=never"):
        streamable_settings(Phase4Config(**asked), 1000)


def test_a_model_is_streamed_where_it_would_not_fit(tmp_path, monkeypatch):
    model = str(write_model(tmp_path / "model"))
    for free, expected in ((None, False), (10**12, False), (10_000, True)):
        monkeypatch.setattr(streamed_compressor, "available", lambda free=free: free)
        assert streams(model, Phase4Config()) is expected
        assert streams(model, Phase4Config(streaming="always"))
        assert not streams(model, Phase4Config(streaming="never"))
        assert not streams("tiny", Phase4Config())
    with pytest.raises(BitnetError, match="cannot be streamed"):
        streams("tiny", Phase4Config(streaming="always"))


def drop(model):
    tensors = load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, model / "model.safetensors")


def add(model):
    save_file(load_file(model / "model.safetensors") | {"more": torch.ones(1)}, model / "model.safetensors")


def reshape(model):
    tensors = load_file(model / "model.safetensors")
    save_file(tensors | {"model.norm.weight": torch.ones(5)}, model / "model.safetensors")


def spoil(model):
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, model / "model.safetensors")


def escape(model):
    (model / streamed_folder.INDEX).write_text(json.dumps({"weight_map": {"x": "../y.safetensors"}}))


def ask_for_more(model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10_000_000}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (ask_for_more, "num_hidden_layers = 10000000"),
        (drop, "lacks model.norm.weight"),
        (add, "beside them, more"),
        (reshape, "in shape"),
        (spoil, "model.layers.1.mlp.up_proj.weight' holds NaN"),
        (escape, "not in its folder"),
        (lambda model: (model / streamed_folder.INDEX).write_text("[]"), "no weight_map"),
        (lambda model: (model / "tokenizer.json").unlink(), "no tokenizer"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(tmp_path, damage, told):
    model = write_model(tmp_path / "model")
    damage(model)
    with pytest.raises(BitnetError, match=told):
        finish(model, tmp_path / "out", streaming="always", **write_texts(tmp_path))
    shutil.rmtree(model)
