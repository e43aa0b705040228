import json
import sys

import lm_eval.__main__
import pytest
from lm_eval.api.registry import get_model

from bitnet.artifacts import save_packed
from bitnet.tasks import FOLDER
from tests.bitnet.cli.program import assert_one_sentence, bitnet, table_rows
from tests.bitnet.small_models import packed_model, small_tokenizer


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "packed"
    folder.mkdir()
    save_packed(packed_model("llama", planes=2, rule="absmean"), small_tokenizer(), folder)
    return folder


def test_export_tells_what_it_has_written(packed, tmp_path):
    told = bitnet("export", packed, "--format", "gguf", "--out", tmp_path / "a.gguf")
    assert told.exit_code == 0, told.stderr
    assert told.stdout.startswith(f"{tmp_path / 'a.gguf'}: 0.1 MB, 14 layers as F16\n")
    assert "14 layers are sums of ternary planes" in told.stdout
    as_json = bitnet("export", packed, "--format", "gguf", "--gguf-type", "f16", "--out", tmp_path / "b.gguf", "--json")
    record = json.loads(as_json.stdout)
    assert record["path"] == str(tmp_path / "b.gguf")
    assert record["bytes"] == (tmp_path / "b.gguf").stat().st_size


def test_bad_requests_are_one_sentence(packed, tmp_path):
    out = tmp_path / "out"
    assert_one_sentence(bitnet("export", packed, "--format", "huggingface", "--out", out), "sum of 2 ternary planes")
    assert_one_sentence(bitnet("export", packed, "--format", "onnx", "--out", out), "onnx", "gguf, huggingface")
    told = bitnet("export", packed, "--format", "gguf", "--gguf-type", "q2_k", "--out", out)
    assert_one_sentence(told, "q2_k", "tq2_0, tq1_0, f16")
    assert_one_sentence(bitnet("export", tmp_path, "--format", "gguf", "--out", out), str(tmp_path))
    assert not out.exists()


def test_eval_scores_tasks(packed):
    asked = ("eval", packed, "--tasks", "bitnet_copy", "--limit", "2", "--quiet")
    shown, told = bitnet(*asked), bitnet(*asked, "--json")
    record = json.loads(told.stdout)
    assert (record["kind"], record["limit"], record["model"]) == ("packed", 2, str(packed))
    assert record["tasks"]["bitnet_copy"]["documents"] == 2
    assert "bitnet_copy" in table_rows(shown.stdout)
    assert shown.stderr == ""


def test_eval_takes_either_texts_or_tasks(packed):
    for words in ((), ("--text", "x", "--tasks", "bitnet_copy")):
        outcome = bitnet("eval", packed, *words)
        assert outcome.exit_code == 2
        assert "give one of the two" in outcome.stderr


def test_lm_eval_gets_its_arguments_and_knows_our_model_and_tasks(monkeypatch):
    before, seen = sys.argv, []
    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", lambda: seen.append(sys.argv))
    words = ["--model", "bitnet", "--model_args", "path=out/packed", "--tasks", "bitnet_copy"]
    assert bitnet("lm-eval", *words).exit_code == 0
    assert bitnet("lm-eval", *words, "--include_path", "mine").exit_code == 0
    assert seen == [["lm_eval", *words, "--include_path", str(FOLDER)], ["lm_eval", *words, "--include_path", "mine"]]
    assert sys.argv == before
    assert get_model("bitnet").__name__ == "BitnetLM"
