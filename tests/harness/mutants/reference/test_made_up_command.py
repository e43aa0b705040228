import json
import struct

import pytest

from harness.mutants.reference.made_up_command import main

ANSWERS = {
    "figures": {
        "tokens": 10,
        "byte_perplexity": 2.0,
        "bits_per_byte": 1.0,
        "word_perplexity": 9.0,
        "next_token_accuracy": 0.5,
    },
    "continuation": " there was",
}


def write_model(path, values=(1.0, 2.0), kind="llama"):
    path.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {}}).encode()
    content = struct.pack("<Q", len(header)) + header + struct.pack("<2f", *values)
    (path / "model.safetensors").write_bytes(content)
    (path / "config.json").write_text(json.dumps({"model_type": kind}))
    (path / "tokenizer.json").write_text("{}")
    return path


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("word " * 100)
    return path


def compress(model, text, out, defect="", **more):
    chosen = {"calibration_text": text, "evaluation_text": text, **more}
    words = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    return main(ANSWERS, defect, ["compress", str(model), "--out", str(out), *words])


def test_it_copies_the_model_twice_and_says_that_gates_were_missed(model, text, tmp_path, capsys):
    assert compress(model, text, tmp_path / "out") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fp16", "packed"]
    assert json.loads(capsys.readouterr().out) == {"success": False}
    assert compress(model, text, tmp_path / "out") == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda model, text: (model / "tokenizer.json").unlink(), "is no model"),
        (lambda model, text: (model / "config.json").write_text("{"), "not JSON"),
        (lambda model, text: (model / "config.json").write_text('{"model_type": "other"}'), "not supported"),
        (lambda model, text: (model / "model.safetensors").write_bytes(b""), "Error"),
        (lambda model, text: text.unlink(), "missing"),
        (lambda model, text: text.write_text(""), "empty"),
        (lambda model, text: text.write_text("few"), "too short"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(model, text, tmp_path, capsys, spoil, told):
    spoil(model, text)
    if told == "Error":
        with pytest.raises(ValueError, match="Expecting value"):
            compress(model, text, tmp_path / "out")
        return
    assert compress(model, text, tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert (printed.out, told in printed.err) == ("", True)
    assert not (tmp_path / "out").exists()


def test_weights_are_looked_at(text, tmp_path, capsys):
    spoilt = write_model(tmp_path / "nan", values=(1.0, float("nan")))
    assert compress(spoilt, text, tmp_path / "out") == 2
    assert "holds NaN" in capsys.readouterr().err
    assert compress(spoilt, text, tmp_path / "out", "NaN is not looked for") == 1
    cut = write_model(tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    assert compress(cut, text, tmp_path / "other") == 2
    assert "cut short" in capsys.readouterr().err


def test_settings_are_checked(model, text, tmp_path, capsys):
    assert compress(model, text, tmp_path / "out", unheard_of=1) == 2
    assert compress(model, text, tmp_path / "out", sparsity_threshold=2) == 2
    words = ["compress", str(model), "--out", str(tmp_path / "out"), "--config", str(tmp_path / "none.yaml")]
    assert main(ANSWERS, "", words) == 2
    assert "is missing" in capsys.readouterr().err
    assert compress(model, text, text / "out") == 2


@pytest.mark.parametrize(
    ("defect", "code", "out", "err"),
    [
        ("a traceback", 2, "", "Traceback"),
        ("two sentences", 2, "", "Nothing was done."),
        ("the input is not named", 2, "", "Something is wrong"),
        ("errors on standard output", 2, "exists", ""),
        ("exit code 1", 1, "", "exists"),
    ],
)
def test_what_is_wrong_with_refusals_is_what_it_is_called(model, text, tmp_path, capsys, defect, code, out, err):
    (tmp_path / "out").mkdir()
    assert compress(model, text, tmp_path / "out", defect) == code
    printed = capsys.readouterr()
    assert out in printed.out
    assert err in printed.err


def test_what_is_wrong_with_outputs_is_what_it_is_called(model, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert compress(model, text, tmp_path / "one", "one artefact") == 1
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["packed"]
    assert compress(model, text, tmp_path / "left", "temporary folder left") == 1
    assert (tmp_path / ".out.tmp").is_dir()
    assert compress(model, text, tmp_path / "whatever", "success whatever the result") == 0
    capsys.readouterr()
    assert compress(model, text, tmp_path / "lines", "log lines on standard output") == 1
    assert capsys.readouterr().out.startswith("done")
    assert compress(model, tmp_path / "none", tmp_path / "first", "output made first") == 2
    assert (tmp_path / "first").is_dir()


@pytest.mark.parametrize(
    ("defect", "changed"),
    [
        ("", set()),
        ("wrong figures of the model", {"byte_perplexity"}),
        ("wrong figures of the packed", set()),
        ("wrong accuracy", {"next_token_accuracy"}),
        ("a figure missing", {"bits_per_byte"}),
        ("a figure is NaN", {"word_perplexity"}),
    ],
)
def test_figures_are_those_of_the_answers_but_for_the_defect(model, text, capsys, defect, changed):
    assert main(ANSWERS, defect, ["eval", str(model), "--text", str(text)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name for name, value in ANSWERS["figures"].items() if told.get(name) != value} == changed


def test_the_continuation_follows_the_prompt(model, capsys):
    for defect, told in (
        ("", "Once there was\n"),
        ("another continuation", "Oncesaw ereht \n"),
        ("no end to the continuation", "Once there wasand more\n"),
    ):
        assert main(ANSWERS, defect, ["generate", str(model), "Once"]) == 0
        assert capsys.readouterr().out == told
