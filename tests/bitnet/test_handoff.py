import json

import pytest

from bitnet.errors import BitnetError
from bitnet.handoff import (
    PHASE3_MANIFEST,
    check_phase5,
    phase3_manifest,
    phase5_manifest,
    save_phase5,
    tokenizer_digest,
)
from tests.bitnet.small_models import small_tokenizer


def write_phase3(folder, **changes):
    tokenizer = small_tokenizer()
    manifest = {
        "model_path": "somewhere",
        "tokenizer_sha256": tokenizer_digest(tokenizer),
        "vocabulary_size": len(tokenizer),
        "thinking_tokens": ["a", "b", "c", "d", "e", "f", "g", "h"],
        "strategy_accuracies": {"direct": 0.5},
        "anti_theater": {"varied": True},
        "metrics": {"loss": 2.5},
    }
    manifest.update(changes)
    (folder / PHASE3_MANIFEST).write_text(json.dumps({k: v for k, v in manifest.items() if v is not ...}))


def test_a_bare_folder_gets_a_manifest_that_says_it_was_made_here(tmp_path):
    manifest = phase3_manifest("model", tmp_path, small_tokenizer())
    assert manifest.synthesised
    assert manifest.vocabulary_size == len(small_tokenizer())
    assert manifest.thinking_tokens is None


def test_a_valid_manifest_is_taken_as_it_is(tmp_path):
    write_phase3(tmp_path)
    manifest = phase3_manifest("model", tmp_path, small_tokenizer())
    assert not manifest.synthesised
    assert manifest.metrics == {"loss": 2.5}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_path": ...}, "'model_path'"),
        ({"vocabulary_size": 0}, "'vocabulary_size'"),
        ({"vocabulary_size": 5}, "another tokenizer"),
        ({"tokenizer_sha256": "0" * 64}, "another tokenizer"),
        ({"tokenizer_sha256": "short"}, "'tokenizer_sha256'"),
        ({"thinking_tokens": ["a"]}, "'thinking_tokens'"),
        ({"thinking_tokens": ["<none>"] * 8}, "'<none>'"),
        ({"strategy_accuracies": {"direct": 1.5}}, "'strategy_accuracies.direct'"),
        ({"anti_theater": {"varied": "maybe"}}, "'anti_theater.varied'"),
        ({"metrics": {"loss": float("nan")}}, "'metrics.loss'"),
        ({"surprise": 1}, "'surprise'"),
    ],
)
def test_an_invalid_manifest_is_refused_by_the_field(tmp_path, change, words):
    write_phase3(tmp_path, **change)
    with pytest.raises(BitnetError, match=words) as error:
        phase3_manifest("model", tmp_path, small_tokenizer())
    assert "phase3.json" in str(error.value)


def test_a_manifest_that_is_not_an_object_is_refused(tmp_path):
    (tmp_path / PHASE3_MANIFEST).write_text("[]")
    with pytest.raises(BitnetError, match="'the top level'"):
        phase3_manifest("model", tmp_path, small_tokenizer())


@pytest.fixture
def out(tmp_path):
    for name in ("packed", "fp16"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
    (tmp_path / "result.json").write_text("{}")
    save_phase5(tmp_path, made(tmp_path))
    return tmp_path


def made(folder):
    return phase5_manifest(
        folder,
        config={"rule": "optimal", "granularity": "channel", "codec": "2bit"},
        phase3=phase3_manifest("model", folder, small_tokenizer()),
        metrics={"compression/ratio": 6.5},
        gates=[{"name": "agreement", "passed": True}],
        success=True,
        command="bitnet compress model --out out",
    )


def test_the_manifest_lists_every_file_but_itself(out):
    manifest = check_phase5(out)
    assert set(manifest.files) == {"packed/model.safetensors", "fp16/model.safetensors", "result.json"}
    assert manifest.success
    assert manifest.metrics == {"compression/ratio": 6.5}


def test_the_run_id_follows_the_artefacts_and_not_the_record_of_times(out):
    before = made(out).run_id
    (out / "result.json").write_text('{"duration": 2}')
    assert made(out).run_id == before
    (out / "fp16" / "model.safetensors").write_bytes(b"other")
    assert made(out).run_id != before


def test_an_altered_or_missing_file_is_named(out):
    (out / "fp16" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(BitnetError, match=r"fp16/model\.safetensors is not the file"):
        check_phase5(out)
    (out / "fp16" / "model.safetensors").unlink()
    with pytest.raises(BitnetError, match=r"fp16/model\.safetensors"):
        check_phase5(out)


def test_an_invalid_manifest_is_named(out):
    (out / "manifest.json").write_text('{"run_id": 1}')
    with pytest.raises(BitnetError, match=r"manifest\.json is invalid at"):
        check_phase5(out)
