import json

import pytest

from bitnet.huggingface import load_folder
from bitnet.perplexity import perplexity
from bitnet.result import load_result
from tests.bitnet.cli.program import SETTINGS, assert_one_sentence, bitnet, table_rows


def evaluation(*arguments: object) -> dict:
    outcome = bitnet("eval", *arguments, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_eval_gives_the_figures_of_the_library(folder, texts):
    text = texts / "evaluation.txt"
    model, tokenizer = load_folder(folder)
    found = evaluation(folder, "--text", text, "--batch-size", "2")
    expected = perplexity(model, tokenizer, [text.read_text()], 128, batch_size=2).as_dict()
    assert {name: found[name] for name in expected} == expected
    assert (found["context_length"], found["texts"]) == (128, [str(text)])


def test_context_length_and_max_tokens_are_used(folder, texts):
    text = texts / "evaluation.txt"
    model, tokenizer = load_folder(folder)
    found = evaluation(folder, "--text", text, "--context-length", "16", "--max-tokens", "50")
    expected = perplexity(model, tokenizer, [text.read_text()], 16, max_tokens=50)
    assert found["token_perplexity"] == pytest.approx(expected.token_perplexity, rel=1e-6)
    assert found["tokens"] == expected.tokens <= 50


def test_several_texts_are_several_documents(folder, texts):
    files = [texts / "evaluation.txt", texts / "calibration.txt"]
    found = evaluation(folder, "--text", files[0], "--text", files[1])
    assert [document["bytes"] for document in found["documents"]] == [file.stat().st_size for file in files]


def test_the_artefacts_of_a_run_can_be_evaluated(easy, texts):
    """On the run's own text the packed one measures what the run has recorded."""
    _, out = easy
    result = load_result(out)
    text = ["--text", texts / "evaluation.txt", "--max-tokens", SETTINGS["evaluation_tokens"]]
    packed, fp16 = (evaluation(out / name, *text) for name in ("packed", "fp16"))
    assert packed["token_perplexity"] == pytest.approx(result.final.token_perplexity, rel=1e-6)
    assert packed["kind"] == "packed"
    assert fp16["token_perplexity"] == pytest.approx(result.final.token_perplexity, rel=0.05)


def test_the_tables_of_an_evaluation_hold_its_figures(folder, texts, monkeypatch):
    monkeypatch.chdir(texts)
    files = ["--text", "evaluation.txt", "--text", "calibration.txt"]
    outcome = bitnet("eval", folder, *files, "--quiet")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    rows, found = table_rows(outcome.stdout), evaluation(folder, *files)
    assert rows["tokens"][0] == f"{found['tokens']:,}"
    assert rows["byte perplexity"] == [f"{found['byte_perplexity']:.3f}"]
    assert rows["next-token accuracy"] == [f"{100 * found['next_token_accuracy']:.1f} %"]
    assert rows["calibration.txt"][0] == f"{found['documents'][1]['tokens']:,}"


@pytest.mark.parametrize(
    ("content", "fragment"), [(None, "No such file"), (b"", "is empty"), (b"\xff", "not UTF-8"), (b" \n ", "is empty")]
)
def test_a_text_that_cannot_be_scored_is_one_sentence(content, fragment, folder, tmp_path):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    outcome = bitnet("eval", folder, "--text", tmp_path / "text.txt")
    assert_one_sentence(outcome, str(tmp_path / "text.txt"), fragment)


def test_a_context_beyond_the_models_positions_is_one_sentence(folder, texts):
    outcome = bitnet("eval", folder, "--text", texts / "evaluation.txt", "--context-length", "129")
    assert_one_sentence(outcome, "129", "128 positions")


def test_the_folder_of_a_run_names_its_two_models(easy, texts):
    _, out = easy
    for outcome in (bitnet("eval", out, "--text", texts / "evaluation.txt"), bitnet("generate", out, "the")):
        assert_one_sentence(outcome, f"{out}/packed", f"{out}/fp16")
