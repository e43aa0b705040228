import copy
import shutil

import pytest
import torch

from bitnet import handoff_validation
from bitnet.checkpoint import digest_file
from bitnet.errors import BitnetError
from bitnet.handoff_validation import validate, validate_input
from bitnet.models import load_model
from tests.bitnet.phase4 import write_model
from tests.bitnet.small_models import small_tokenizer
from tests.bitnet.test_handoff import write_phase3


def test_an_output_is_told_by_its_content(finished):
    found = validate(str(finished.out))
    assert (found.handoff, found.success, found.missed) == ("phase5", True, ())
    assert found.run_id == found.manifest["run_id"]
    assert found.files["result.json"] == digest_file(finished.out / "result.json")


def test_a_model_that_comes_in_is_opened_digested_and_run(model_folder, tmp_path):
    found = validate(str(model_folder))
    assert (found.handoff, found.run_id, found.success) == ("phase3", None, None)
    assert found.manifest["synthesised"]
    assert found.files["model.safetensors"] == digest_file(model_folder / "model.safetensors")
    folder = shutil.copytree(model_folder, tmp_path / "model")
    write_phase3(folder)
    assert not validate(str(folder)).manifest["synthesised"]
    write_phase3(folder, metrics=...)
    with pytest.raises(BitnetError, match="'metrics'"):
        validate(str(folder))


def test_a_part_of_an_output_is_none(finished, tmp_path):
    with pytest.raises(BitnetError, match="one of the two models of an output"):
        validate(str(finished.out / "packed"))
    with pytest.raises(BitnetError, match="compressed already"):
        validate_input(str(finished.out / "packed"))
    (tmp_path / "fp16").mkdir()
    with pytest.raises(BitnetError, match=r"manifest\.json"):
        validate(str(tmp_path))
    with pytest.raises(BitnetError, match="There is no model"):
        validate(str(tmp_path / "nothing"))


def test_a_tokenizer_too_large_for_the_model_is_refused(tmp_path):
    folder = write_model(tmp_path / "model", "llama")
    number = load_model(str(folder)).model.get_input_embeddings().weight.shape[0]
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.add_tokens([f"<{index}>" for index in range(number)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(BitnetError, match=f"has embeddings for {number}"):
        validate(str(folder))


def test_a_model_whose_logits_are_not_finite_is_refused(model_folder, monkeypatch):
    def load(source):
        loaded = load_model(source)
        with torch.no_grad():
            loaded.model.transformer.ln_f.weight.fill_(3e38)
        return loaded

    monkeypatch.setattr(handoff_validation, "load_model", load)
    with pytest.raises(BitnetError, match="NaN or infinite"):
        validate(str(model_folder))


def test_a_gguf_file_is_digested_by_itself(tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert handoff_validation._digests(file) == {"model.gguf": digest_file(file)}
