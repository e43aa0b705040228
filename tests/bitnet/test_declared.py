import json
import os
import shutil
import struct

import pytest
from transformers import AutoConfig

from bitnet.artifacts import load_packed, load_tokenizer, save_packed
from bitnet.checkpoint import digest_file
from bitnet.declared import Held, check_declared, check_shards, held_in_gguf, held_in_safetensors
from bitnet.errors import BitnetError
from bitnet.huggingface import load_folder, load_gguf, save_folder, save_tokenizer
from tests.bitnet.small_gguf import write_gguf
from tests.bitnet.small_models import packed_model, small_model, small_tokenizer


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    save_folder(small_model("llama"), small_tokenizer(), folder)
    return folder


@pytest.fixture
def copy(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "model")
    return tmp_path / "model"


def change(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


EXCESSIVE = {
    "num_hidden_layers": (10**7, r"num_hidden_layers = 10000000, but its files hold 20 tensors"),
    "vocab_size": (2**40, r"describes \d+ parameters, but its files have room for \d+"),
    "hidden_size": (2**20, r"describes \d+ parameters, but its files have room for \d+"),
}


@pytest.mark.parametrize("name", EXCESSIVE)
def test_a_configuration_that_asks_for_more_than_the_files_hold_builds_nothing(name, copy):
    value, told = EXCESSIVE[name]
    change(copy / "config.json", **{name: value})
    with pytest.raises(BitnetError, match=told):
        load_folder(copy)


def test_likewise_of_a_packed_folder_whose_digests_are_right(tmp_path):
    save_packed(packed_model(), small_tokenizer(), tmp_path)
    change(tmp_path / "config.json", num_hidden_layers=10**7)
    record = json.loads((tmp_path / "bitnet.json").read_text())
    size = (tmp_path / "config.json").stat().st_size
    record["files"]["config.json"] = {"sha256": digest_file(tmp_path / "config.json"), "bytes": size}
    (tmp_path / "bitnet.json").write_text(json.dumps(record))
    with pytest.raises(BitnetError, match="num_hidden_layers = 10000000"):
        load_packed(tmp_path)


def test_likewise_of_a_gguf_file(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", small_model("llama"), small_tokenizer())
    content = path.read_bytes()
    key = b"llama.block_count"
    at = content.index(struct.pack("<Q", len(key)) + key) + 8 + len(key) + 4
    path.write_bytes(content[:at] + struct.pack("<I", 10**7) + content[at + 4 :])
    with pytest.raises(BitnetError, match="num_hidden_layers = 10000000"):
        load_gguf(path)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0))
    assert held_in_gguf(path).tensors == 24, "more tensors than bytes"


def test_integers_count_as_packed_weights(tmp_path, plain):
    weights = held_in_safetensors([plain / "model.safetensors"]).weights
    assert weights == sum(each.numel() for each in small_model("llama").parameters())
    save_packed(packed_model(), small_tokenizer(), tmp_path)
    assert held_in_safetensors([tmp_path / "model.safetensors"]).weights > weights
    config = AutoConfig.from_pretrained(plain)
    check_declared(plain, config, Held(20, weights))


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({"weight_map": {"a": "../../elsewhere.safetensors"}}, "names the file ../../elsewhere.safetensors"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names the file /etc/passwd"),
        ({"weight_map": {"a": 1}}, "names the file 1"),
        ({"weight_map": [1]}, "is no index of weights"),
        ([], "is no index of weights"),
    ],
)
def test_an_index_names_files_of_its_own_folder_alone(index, told, copy):
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BitnetError, match=told):
        load_folder(copy)


def test_an_index_of_shards_in_the_folder_is_fine(copy):
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    check_shards(copy)


def test_a_pipe_among_the_weights_is_not_waited_for(copy):
    os.mkfifo(copy / "more.safetensors")
    with pytest.raises(BitnetError, match="is a pipe or a device"):
        load_folder(copy)


def test_code_that_comes_with_a_tokenizer_is_neither_run_nor_asked_about(copy, capfd):
    change(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="EvilT")
    (copy / "evil.py").write_text("raise SystemExit('run')")
    for load in (load_folder, load_tokenizer):
        with pytest.raises(BitnetError, match="custom code"):
            load(copy)
    assert "[y/N]" not in "".join(capfd.readouterr())


def test_names_of_chat_templates_lead_nowhere(copy, tmp_path):
    templates = [{"name": "default", "template": "x"}, {"name": "../../evil", "template": "x"}]
    change(copy / "tokenizer_config.json", chat_template=templates)
    tokenizer = load_tokenizer(copy)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(BitnetError, match=r"The tokenizer cannot be saved .*chat template name"):
        save_tokenizer(tokenizer, tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_damaged_generation_config_of_a_packed_folder_is_refused(text, tmp_path):
    save_packed(packed_model(), small_tokenizer(), tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(text)
    record = json.loads((tmp_path / "bitnet.json").read_text())
    record["files"][path.name] = {"sha256": digest_file(path), "bytes": path.stat().st_size}
    (tmp_path / "bitnet.json").write_text(json.dumps(record))
    with pytest.raises(BitnetError, match=r"config\.json describes no model"):
        load_packed(tmp_path)
