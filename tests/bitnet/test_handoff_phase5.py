import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bitnet import handoff_phase5
from bitnet.checkpoint import digest_file
from bitnet.errors import BitnetError
from bitnet.handoff_phase5 import Phase5Manifest, check_phase5, phase5_manifest, save_phase5
from bitnet.result import load_result
from tests.bitnet.phase4 import sentences


@pytest.fixture
def out(finished, tmp_path):
    return shutil.copytree(finished.out, tmp_path / "out")


def rewrite(out, **changes):
    manifest = json.loads((out / "manifest.json").read_text()) | changes
    (out / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not ...}))


def refused(out, words):
    with pytest.raises(BitnetError, match=words) as error:
        check_phase5(out)
    assert str(out) in str(error.value)


def test_an_output_is_what_its_manifest_says(finished):
    manifest = check_phase5(finished.out)
    everything = {p.relative_to(finished.out).as_posix() for p in finished.out.rglob("*") if p.is_file()}
    assert set(manifest.files) == everything - {"manifest.json"}
    assert manifest.phase3 == load_result(finished.out).phase3
    assert manifest.missed == ()


def changed(manifest, field):
    """Other values of the right type, which another output might have."""
    gate = manifest["gates"][0]
    phase3, files = manifest["phase3"], manifest["files"]
    return {
        "schema_version": [2, True, 1.0, "1"],
        "run_id": [manifest["run_id"][::-1]],
        "primary": ["packed"],
        "packed": ["fp16"],
        "files": [
            files | {"result.json": "0" * 64},
            files | {"../elsewhere": "0" * 64},
            {name: digest for name, digest in files.items() if name != "result.json"},
        ],
        "rule": ["absmean"],
        "granularity": ["tensor"],
        "codec": ["int8"],
        "scales": ["packed/model.safetensors: <layer>.scales"],
        "phase3": [
            phase3 | {"model_path": "elsewhere"},
            phase3 | {"vocabulary_size": 3},
            phase3 | {"metrics": {"x": 1}},
        ],
        "metrics": [manifest["metrics"] | {"compression/ratio": 99.0}, {}],
        "gates": [
            [gate | {"passed": not gate["passed"]}, *manifest["gates"][1:]],
            [gate | {"limit": 9.0}, *manifest["gates"][1:]],
            [gate | {"measured": str(gate["measured"])}, *manifest["gates"][1:]],
            manifest["gates"][1:],
        ],
        "success": [not manifest["success"]],
        "command": ["bitnet compress another"],
    }[field]


@pytest.mark.parametrize("field", [*Phase5Manifest.model_fields])
def test_each_field_that_is_missing_corrupt_or_not_true_is_named(out, field):
    manifest = json.loads((out / "manifest.json").read_text())
    for value in (..., 3.5, None, *changed(manifest, field)):
        rewrite(out, **{field: value})
        refused(out, f"'{field}")
    rewrite(out, **{field: manifest[field]})
    assert check_phase5(out).run_id == manifest["run_id"]


def test_a_field_that_nobody_knows_is_named(out):
    rewrite(out, surprise=1)
    refused(out, "'surprise'")


def test_an_altered_a_missing_and_an_additional_file_is_named(out):
    weights = out / "fp16" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(out, r"fp16/model\.safetensors")
    weights.unlink()
    refused(out, r"fp16/model\.safetensors")
    weights.write_bytes(content)
    (out / "fp16" / "pytorch_model.bin").write_text("surprise")
    refused(out, r"pytorch_model\.bin is not among the 'files'")
    (out / "manifest.json").unlink()
    refused(out, r"manifest\.json")


def forge(out, **changes):
    """Write result and manifest anew with changes, as a careless program would: digests and copies agree."""
    result = load_result(out).model_copy(update=changes)
    (out / "result.json").write_text(result.model_dump_json())
    save_phase5(out, phase5_manifest(out, load_result(out)))


def test_a_record_that_agrees_with_the_manifest_but_not_with_itself_is_refused(out):
    result = load_result(out)
    gate = result.gates[0].model_copy(update={"passed": not result.gates[0].passed})
    forge(out, gates=(gate, *result.gates[1:]))
    refused(out, "'gates'")
    forge(out, gates=result.gates, verification=result.verification.model_copy(update={"reproduced": False}))
    refused(out, "'success'")
    forge(out, verification=result.verification, metrics=result.metrics | {"compression/compressed_size_mb": 1.0})
    refused(out, "'metrics'.*compressed_size_mb")
    forge(out, metrics=result.metrics, phase3=result.phase3.model_copy(update={"tokenizer_sha256": "0" * 64}))
    refused(out, "'phase3'.*another tokenizer")


def test_the_models_are_run(out):
    """A weight that was changed before the digests were taken is seen by what the model does."""
    weights = out / "fp16" / "model.safetensors"
    tensors = load_file(weights)
    tensors["transformer.ln_f.weight"] = tensors["transformer.ln_f.weight"] * 2
    save_file(tensors, weights, {"format": "pt"})
    save_phase5(out, phase5_manifest(out, load_result(out)))
    refused(out, "fp16 does not give the logits recorded")


def test_the_run_id_follows_the_models_and_not_the_record_of_times(out):
    before = phase5_manifest(out, load_result(out)).run_id
    forge(out, duration=99.0)
    assert check_phase5(out).run_id == before
    (out / "fp16" / "config.json").write_text("{}")
    assert phase5_manifest(out, load_result(out)).run_id != before


def test_phase_5_trains_a_step_on_what_it_is_given(out):
    """With transformers alone, by the paths in the manifest, after it has compared the digests."""
    manifest = json.loads((out / "manifest.json").read_text())
    assert all(digest_file(out / name) == digest for name, digest in manifest["files"].items())
    model = AutoModelForCausalLM.from_pretrained(out / manifest["primary"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out / manifest["primary"])
    tokens = torch.tensor(tokenizer.encode(sentences(20, 3))[:128]).reshape(2, 64)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model.eval()
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    assert model(input_ids=tokens, labels=tokens).loss < loss
    trained = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert len(trained) == len(before)


def test_a_path_that_leads_out_of_the_folder_is_not_read(out, monkeypatch):
    monkeypatch.setattr(handoff_phase5, "digest_file", lambda path: pytest.fail(f"{path} was read"))
    files = json.loads((out / "manifest.json").read_text())["files"]
    rewrite(out, files={"packed/../../secret": "0" * 64} | files)
    refused(out, "'files'.*elsewhere")


def test_a_link_out_of_the_output_is_refused(out, tmp_path):
    (tmp_path / "elsewhere").write_bytes((out / "fp16" / "config.json").read_bytes())
    (out / "fp16" / "config.json").unlink()
    (out / "fp16" / "config.json").symlink_to(tmp_path / "elsewhere")
    refused(out, "config.json is a link that leads out of")


def test_a_link_within_the_output_is_not(out):
    (out / "copy.json").symlink_to("result.json")
    check_phase5(out)
