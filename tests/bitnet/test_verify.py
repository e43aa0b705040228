import json
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitnet.errors import BitnetError
from bitnet.packed_manifest import TENSORS
from bitnet.verify import RECORD, Verification, main, verify, verify_in_fresh_process, weights_digest
from tests.bitnet.small_models import small_model


@pytest.fixture
def out(finished, tmp_path):
    """A copy of a finished run, to be altered."""
    return shutil.copytree(finished.out, tmp_path / "out")


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def test_what_was_written_is_read_back_to_the_last_bit(out):
    found = verify(out)
    assert found == Verification(16, 0.0, 0.0, packed_identical=True, fp16_identical=True)
    assert found.reproduced


def test_a_fresh_process_reproduces_it_whatever_lies_in_the_working_directory(out, tmp_path, monkeypatch):
    for name in ("bitnet.py", "torch.py", "tokenizers.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    found = verify_in_fresh_process(out)
    assert found.reproduced
    assert found.positions == 16


@pytest.mark.parametrize("name", [TENSORS, "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_one_altered_bit_of_the_packed_model_is_found(out, name):
    path = out / "packed" / name
    flip(path, path.stat().st_size // 2)
    with pytest.raises(BitnetError, match=rf"{name} is damaged"):
        verify(out)


@pytest.mark.parametrize("place", [-1, -5000])
def test_one_altered_bit_of_a_half_precision_weight_is_found(out, place):
    path = out / "fp16" / TENSORS
    flip(path, path.stat().st_size + place)
    found = verify(out)
    assert not found.fp16_identical
    assert found.packed_identical
    assert not found.reproduced


def test_a_fresh_process_tells_what_is_wrong(out):
    path = out / "packed" / TENSORS
    flip(path, path.stat().st_size - 1)
    with pytest.raises(BitnetError, match=r"could not be reloaded in a fresh process: .*safetensors is damaged"):
        verify_in_fresh_process(out)


def test_logits_that_differ_are_not_reproduced(out):
    tensors = load_file(out / RECORD)
    metadata = read_metadata(out / RECORD)
    tensors["packed"] += tensors["packed"].abs().max() * 1e-3
    save_file(tensors, out / RECORD, metadata=metadata)
    found = verify(out)
    assert found.packed_difference == pytest.approx(1e-3, rel=0.01)
    assert found.fp16_difference == 0.0
    assert not found.reproduced
    tensors["packed"] = tensors["packed"][:, :8]
    save_file(tensors, out / RECORD, metadata=metadata)
    assert verify(out).packed_difference == float("inf")
    tensors["packed"] = torch.full_like(tensors["fp16"], float("nan"))
    save_file(tensors, out / RECORD, metadata=metadata)
    assert not verify(out).reproduced


def read_metadata(path):
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


@pytest.mark.parametrize("damage", ["missing", "garbage", "no metadata", "no tensor"])
def test_a_record_that_cannot_be_read_is_named(out, damage):
    path = out / RECORD
    tensors, metadata = load_file(path), read_metadata(path)
    path.unlink()
    if damage == "garbage":
        path.write_bytes(b"garbage")
    if damage == "no metadata":
        save_file(tensors, path)
    if damage == "no tensor":
        save_file({"tokens": tensors["tokens"]}, path, metadata=metadata)
    with pytest.raises(BitnetError, match=r"verification\.safetensors holds no recorded logits"):
        verify(out)


def test_another_tokenizer_is_found(out):
    path = out / "fp16" / "tokenizer.json"
    record = json.loads(path.read_text())
    record["model"]["merges"] = record["model"]["merges"][:3]
    path.write_text(json.dumps(record))
    with pytest.raises(BitnetError, match=r"tokenizer in .*fp16 does not give the recorded tokens"):
        verify(out)


def test_a_digest_covers_names_shapes_dtypes_and_values():
    model = small_model("llama")
    digest = weights_digest(model)
    assert weights_digest(small_model("llama")) == digest
    for change in (
        lambda m: m.model.norm.weight.data[3].add_(1e-6),
        lambda m: m.half(),
        lambda m: setattr(m.model, "other", m.model.norm),
        lambda m: setattr(m.model.norm.weight, "data", m.model.norm.weight.data.reshape(1, -1)),
    ):
        altered = small_model("llama")
        change(altered)
        assert weights_digest(altered) != digest


def test_the_module_prints_json_and_tells_by_its_exit_code(out, capsys):
    threads = torch.get_num_threads()
    assert main([str(out), "--threads", str(threads)]) == 0
    assert json.loads(capsys.readouterr().out)["reproduced"] is True
    path = out / "fp16" / TENSORS
    flip(path, path.stat().st_size - 1)
    assert main([str(out)]) == 1
    assert json.loads(capsys.readouterr().out)["fp16_identical"] is False
    path.unlink()
    assert main([str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_a_process_that_dies_is_told_by_its_last_line(out, monkeypatch):
    def die(command, **_):
        return subprocess.CompletedProcess(command, -9, "", "")

    monkeypatch.setattr(subprocess, "run", die)
    with pytest.raises(BitnetError, match="fresh process: exit code -9"):
        verify_in_fresh_process(out)
