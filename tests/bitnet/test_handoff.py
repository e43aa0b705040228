import json

import pytest

from bitnet.errors import BitnetError
from bitnet.handoff import PHASE3_MANIFEST, Phase3Manifest, phase3_manifest, tokenizer_digest
from tests.bitnet.small_models import small_tokenizer

LETTERS = ["a", "b", "c", "d", "e", "f", "g", "h"]


def write_phase3(folder, **changes):
    tokenizer = small_tokenizer()
    manifest = {
        "model_path": "somewhere",
        "tokenizer_sha256": tokenizer_digest(tokenizer),
        "vocabulary_size": len(tokenizer),
        "thinking_tokens": LETTERS,
        "strategy_accuracies": {"direct": 0.5},
        "anti_theater": {"varied": True},
        "metrics": {"loss": 2.5, "steps": 100},
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
    assert manifest.metrics == {"loss": 2.5, "steps": 100}
    write_phase3(tmp_path, thinking_tokens=...)
    assert phase3_manifest("model", tmp_path, small_tokenizer()).thinking_tokens is None


CORRUPT = {
    "model_path": (..., 3, None, ""),
    "tokenizer_sha256": (..., "0" * 64, "short", 7),
    "vocabulary_size": (..., 0, 5, "278", 278.0, True),
    "thinking_tokens": (["a"], ["<none>", *LETTERS], [*LETTERS[:7], "a"], [*LETTERS, 9], "abcdefgh"),
    "strategy_accuracies": (..., {"direct": 1.5}, {"direct": "0.5"}, {"direct": True}, [0.5], None),
    "anti_theater": (..., {"varied": "true"}, {"varied": 1}, True),
    "metrics": (..., {"loss": float("nan")}, {"loss": float("inf")}, {"loss": "2.5"}, {"loss": None}, 2.5),
    "synthesised": (True, "no", 0.0),
}


@pytest.mark.parametrize("field", [*Phase3Manifest.model_fields])
def test_each_field_that_is_missing_or_corrupt_is_named(tmp_path, field):
    for value in CORRUPT[field]:
        write_phase3(tmp_path, **{field: value})
        with pytest.raises(BitnetError, match=f"'{field}") as error:
            phase3_manifest("model", tmp_path, small_tokenizer())
        assert "phase3.json" in str(error.value)


def test_a_field_that_nobody_knows_is_named(tmp_path):
    write_phase3(tmp_path, surprise=1)
    with pytest.raises(BitnetError, match="'surprise'"):
        phase3_manifest("model", tmp_path, small_tokenizer())


def test_a_manifest_that_is_not_an_object_is_refused(tmp_path):
    (tmp_path / PHASE3_MANIFEST).write_text("[]")
    with pytest.raises(BitnetError, match="'the top level'"):
        phase3_manifest("model", tmp_path, small_tokenizer())
