import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTBigCodeConfig
from typer.testing import CliRunner

from bitnet import phase_controller
from bitnet.architectures import SUPPORTED
from bitnet.builtin import BUILTIN
from bitnet.checkpoint import digest_file
from bitnet.cli import app
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.generation import generate
from bitnet.huggingface import load_folder
from bitnet.perplexity import perplexity
from bitnet.result import load_result, without_times
from bitnet.text import heldout_text, training_text
from tests.bitnet.small_models import COMMON, model_from, small_model, small_tokenizer

SETTINGS = {
    "calibration_samples": 4,
    "calibration_tokens": 32,
    "evaluation_tokens": 200,
    "fine_tune_steps": 0,
}


def bitnet(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def program(*arguments: object, **options: object):
    return subprocess.run(
        [sys.executable, "-m", "bitnet", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def settings(**more: object) -> list[str]:
    return [f"--set={key}={value}" for key, value in {**SETTINGS, **more}.items()]


def assert_one_sentence(outcome, *fragments: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that holds the fragments."""
    code = outcome.exit_code if hasattr(outcome, "exit_code") else outcome.returncode
    told = [line for line in outcome.stderr.splitlines() if not re.match(r" *[\d.]+ s  \d/\d ", line)]
    assert (code, outcome.stdout) == (2, "")
    assert len(told) == 1, told
    assert told[0].startswith("Error: ")
    assert told[0].endswith(".")
    assert "Traceback" not in outcome.stderr
    for fragment in fragments:
        assert fragment in told[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "llama"
    small_model("llama").save_pretrained(path)
    small_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two texts that share nothing, short enough to be read in no time."""
    path = tmp_path_factory.mktemp("texts")
    (path / "calibration.txt").write_text(training_text()[:4000])
    (path / "evaluation.txt").write_text(heldout_text()[:2000])
    return path


@pytest.fixture(scope="module")
def easy(folder, texts, tmp_path_factory):
    """A run with limits that even a random model keeps: the outcome, and the folder of its outputs."""
    out = tmp_path_factory.mktemp("easy") / "out"
    config = out.parent / "phase4.yaml"
    config.write_text(
        f"calibration_text: {texts / 'calibration.txt'}\nevaluation_text: {texts / 'evaluation.txt'}\n"
        "compression_target: 1.0\nmax_accuracy_drop: 0.5\ncodec: int8\n"
    )
    arguments = ["--config", config, *settings(max_accuracy_drop=1.0, codec="base3")]
    return bitnet("compress", folder, "--out", out, *arguments), out


@pytest.fixture(scope="module")
def hard(folder, texts, tmp_path_factory):
    """A run that misses the gate of compression, with JSON wanted."""
    out = tmp_path_factory.mktemp("hard") / "out"
    given = {"calibration_text": texts / "calibration.txt", "evaluation_text": texts / "evaluation.txt"}
    outcome = bitnet("compress", folder, "--out", out, "--json", *settings(**given, compression_target=1e6))
    return outcome, out


def table_rows(shown: str) -> dict[str, list[str]]:
    """What looks like rows of tables: names and cells, with two spaces or more between them."""
    rows = [re.split(r" {2,}", line.rstrip()) for line in shown.splitlines()]
    return {cells[0]: cells[1:] for cells in rows}


# Help, version, settings


def test_help_names_the_commands_and_explains_the_exit_codes():
    top, compress = bitnet("--help"), bitnet("compress", "--help")
    assert top.exit_code == compress.exit_code == 0
    assert all(f"\n  {name} " in top.stdout for name in ("compress", "eval", "generate", "settings"))
    for code in ("0 ", "1 ", "2 ", "130 "):
        assert code in top.stdout
        assert re.search(rf"^ +{code} +\w", compress.stdout, re.MULTILINE)


def test_help_names_what_a_model_may_be():
    text = " ".join(bitnet("compress", "--help").stdout.split())
    assert all(name in text for name in (*BUILTIN, *SUPPORTED))


def test_every_example_in_the_help_is_a_command_that_exists():
    lines = "\n".join(bitnet(*command, "--help").stdout for command in ([], ["compress"], ["eval"], ["generate"]))
    examples = re.findall(r"^ +bitnet (\w+) (.*)$", lines, re.MULTILINE)
    assert len(examples) >= 9
    for command, rest in examples:
        known = bitnet(command, "--help").stdout
        assert all(word in known for word in shlex.split(rest) if word.startswith("--"))


def test_help_and_settings_do_not_load_torch():
    script = (
        "import sys; from bitnet.cli import app\n"
        "for arguments in (['--help'], ['compress', '--help'], ['settings'], ['--version']):\n"
        "    app(arguments, standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'slow'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version_is_that_of_the_distribution():
    assert bitnet("--version").stdout == f"bitnet {importlib.metadata.version('bitnet-audit')}\n"


def test_settings_lists_every_setting_with_a_default_that_can_be_given():
    shown = bitnet("settings").stdout
    listed = dict(re.findall(r"^(\w+) = (.+)$", shown, re.MULTILINE))
    assert listed.keys() == Phase4Config.model_fields.keys()
    assert dict(Phase4Config().with_overrides([f"{key}={value}" for key, value in listed.items()])) == dict(
        Phase4Config()
    )
    for name in listed:
        about = shown.partition(f"{name} = ")[2].partition("\n")[2].partition(" = ")[0]
        assert len(about.partition("Takes")[0].split()) >= 4, name
        assert len(about.partition("Takes")[2].split()) >= 1, name


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["squeeze"],
        ["compress", "tiny"],
        ["compress", "--out", "out"],
        ["eval", "tiny"],
        ["generate", "tiny"],
        ["eval", "tiny", "--text", "x", "--batch-size", "0"],
        ["eval", "tiny", "--text", "x", "--max-tokens", "many"],
        ["generate", "tiny", "x", "--seed", "-1"],
        ["generate", "tiny", "x", "--max-new-tokens", "0"],
    ],
)
def test_wrong_usage_exits_with_2_and_shows_the_usage(arguments):
    outcome = bitnet(*arguments)
    assert outcome.exit_code == 2
    assert "Usage: " in outcome.stderr


# compress


def test_a_run_that_passes_every_gate_exits_with_0_and_leaves_its_outputs(easy):
    outcome, out = easy
    assert outcome.exit_code == 0, outcome.stderr
    assert load_result(out).success
    assert {path.name for path in out.iterdir()} >= {"packed", "fp16", "result.json", "manifest.json"}
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_set_goes_before_the_file_and_the_file_before_the_defaults(easy):
    config = load_result(easy[1]).config
    assert (config["max_accuracy_drop"], config["codec"], config["compression_target"]) == (1.0, "base3", 1.0)


def test_the_summary_tells_quality_sizes_gates_and_what_comes_next(easy):
    outcome, out = easy
    result, shown = load_result(out), outcome.stdout
    rows = table_rows(shown)
    assert rows["token perplexity"][0] == f"{result.before.token_perplexity:.3f}"
    assert rows["token perplexity"][1] == f"{result.final.token_perplexity:.3f}"
    assert rows["bits per byte"][1] == f"{result.final.bits_per_byte:.3f}"
    assert rows["packed"][1] == f"{result.sizes.compression_ratio:.2f}x"
    assert all(rows[gate.name][-1] == "passed" for gate in result.gates)
    assert f"{100 * result.zero_fraction:.1f} % of them zero" in shown
    assert f"{result.sizes.bits_per_weight:.2f} bits each" in shown
    assert "a fresh process reproduced both models" in shown
    assert "Success: every gate was passed." in shown
    assert f"bitnet eval {out}/packed --text FILE" in shown
    assert result.command in shown


def test_logs_get_plain_lines(easy):
    outcome, _ = easy
    assert "\x1b" not in outcome.output
    stages = re.findall(r"^ *[\d.]+ s  (\d)/7 ", outcome.stderr, re.MULTILINE)
    assert stages == list("1234567")
    assert len(outcome.stderr.splitlines()) == 7


def test_json_is_the_record_and_nothing_else(hard):
    outcome, out = hard
    assert outcome.stdout == (out / "result.json").read_text()


def test_a_missed_gate_exits_with_1_and_is_named_while_the_outputs_stay(hard):
    outcome, out = hard
    assert outcome.exit_code == 1
    missed = [gate["name"] for gate in json.loads(outcome.stdout)["gates"] if not gate["passed"]]
    assert "compression_ratio" in missed
    assert f"gates missed ({', '.join(missed)})." in outcome.stderr.splitlines()[-1]
    assert (out / "packed" / "model.safetensors").is_file()


def test_the_recorded_command_repeats_the_run(hard):
    _, out = hard
    first = load_result(out)
    command = shlex.split(first.command)
    assert command[:2] == ["bitnet", "compress"]
    outcome = bitnet(*command[1:], "--force", "--quiet")
    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    assert "compression_ratio" in outcome.stderr
    assert without_times(load_result(out).model_dump(mode="json")) == without_times(first.model_dump(mode="json"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, BitnetError("This stage fails.")])
def test_whatever_ends_a_run_early_leaves_nothing_behind(error, folder, texts, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(phase_controller, "calibrate", fail)
    outcome = bitnet("compress", folder, "--out", tmp_path / "new" / "out", *settings())
    if error is KeyboardInterrupt:
        assert (outcome.exit_code, outcome.stderr.splitlines()[-1]) == (130, "Interrupted.")
    else:
        assert_one_sentence(outcome, "This stage fails.")
    assert list(tmp_path.iterdir()) == []


def broken(folder: Path, target: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of a model with tensors replaced, or, where None is given, left out."""
    shutil.copytree(folder, target)
    stored = load_file(target / "model.safetensors")
    stored.update(tensors)
    kept = {name: tensor for name, tensor in stored.items() if tensor is not None}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


BAD_MODELS = {
    "missing": "nowhere",
    "nan": "model.layers.1.mlp.up_proj.weight",
    "incomplete": "model.layers.0.self_attn.q_proj.weight",
    "truncated": "Cannot load the model",
    "unsupported": "gpt_bigcode",
    "not_a_model": "config.json",
    "picture.gguf": "picture.gguf",
}


@pytest.fixture(scope="module")
def bad_models(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("bad")
    broken(folder, path / "nan", **{"model.layers.1.mlp.up_proj.weight": torch.full((44, 32), float("nan"))})
    broken(folder, path / "incomplete", **{"model.layers.0.self_attn.q_proj.weight": None})
    shutil.copytree(folder, path / "truncated")
    weights = path / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    unsupported = GPTBigCodeConfig(**COMMON, n_embd=32, n_layer=1, n_head=4, n_positions=128)
    model_from(unsupported).save_pretrained(path / "unsupported")
    small_tokenizer().save_pretrained(path / "unsupported")
    (path / "not_a_model").mkdir()
    (path / "picture.gguf").write_bytes(b"\x89PNG" * 20)
    return path


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_cannot_be_compressed_is_one_sentence(name, bad_models, tmp_path):
    outcome = bitnet("compress", bad_models / name, "--out", tmp_path / "out")
    assert_one_sentence(outcome, str(bad_models / name) if name == "missing" else BAD_MODELS[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in BAD_MODELS if name != "unsupported"])
def test_a_model_that_cannot_run_is_one_sentence(name, bad_models, texts):
    named = str(bad_models / name) if name == "missing" else BAD_MODELS[name]
    assert_one_sentence(bitnet("eval", bad_models / name, "--text", texts / "evaluation.txt"), named)
    assert_one_sentence(bitnet("generate", bad_models / name, "the"), named)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--set", "codec=3bit"], ["codec = '3bit'", "one of int8, 2bit, base3"]),
        (["--set", "kodec=2bit"], ["unknown setting 'kodec'", "'codec'"]),
        (["--set", "codec"], ["'codec'", "key=value"]),
        (["--set", "seed=[1"], ["'seed'", "not valid YAML"]),
        (["--config", "absent.yaml"], ["absent.yaml", "cannot be read"]),
        (["--config", "bad.yaml"], ["bad.yaml", "not valid YAML"]),
        (["--config", "list.yaml"], ["list.yaml", "not a mapping"]),
        (["--set", "evaluation_text=absent.txt"], ["absent.txt", "No such file"]),
        (["--set", "evaluation_text=short.txt"], ["short.txt", "too short", "128 tokens"]),
        (["--set", "evaluation_text=empty.txt"], ["empty.txt", "is empty"]),
        (["--set", "evaluation_text=latin1.txt"], ["latin1.txt", "not UTF-8"]),
        (["--set", "calibration_text=short.txt"], ["The calibration text has", "calibration_tokens"]),
        (["--set", "context_length=4096"], ["4096", "128 positions"]),
    ],
    ids=lambda value: "-".join(value) if len(value) == 2 else None,
)
def test_a_bad_setting_or_text_is_one_sentence(arguments, fragments, folder, tmp_path, monkeypatch):
    files = {
        "bad.yaml": b"seed: [\n",
        "list.yaml": b"- 1\n",
        "short.txt": b"Too short.",
        "empty.txt": b" \n",
        "latin1.txt": b"caf\xe9",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    outcome = bitnet("compress", folder, "--out", "out", *arguments)
    assert_one_sentence(outcome, *fragments)
    assert {path.name for path in tmp_path.iterdir()} == files.keys()


def test_one_text_cannot_both_calibrate_and_evaluate(folder, texts, tmp_path):
    text = texts / "evaluation.txt"
    given = settings(calibration_text=text, evaluation_text=text)
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "out", *given), str(text), "evaluation text")


def test_an_output_that_is_there_is_not_replaced(folder, easy, tmp_path):
    _, earlier = easy
    before = digests(earlier)
    assert_one_sentence(bitnet("compress", folder, "--out", earlier), str(earlier), "--force")
    assert digests(earlier) == before
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("Dear diary")
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "diary", "--force"), "no earlier run")
    assert (tmp_path / "diary" / "monday.txt").read_text() == "Dear diary"


def test_an_output_that_is_a_file_is_one_sentence(folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "out"), str(tmp_path / "out"))
    assert_one_sentence(bitnet("compress", folder, "--out", tmp_path / "out" / "below"), str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_that_cannot_be_written_is_one_sentence(folder):
    assert_one_sentence(bitnet("compress", folder, "--out", "/proc/out"), "/proc/out", "choose a place")


def test_an_output_inside_the_model_is_one_sentence(folder):
    before = digests(folder)
    assert_one_sentence(bitnet("compress", folder, "--out", folder / "out"), str(folder), "--out")
    assert digests(folder) == before


def test_a_model_inside_the_output_is_one_sentence(easy):
    _, out = easy
    before = digests(out)
    outcome = bitnet("compress", out / "fp16", "--out", out, "--force")
    assert_one_sentence(outcome, str(out / "fp16"), "would be replaced")
    assert digests(out) == before


def test_a_packed_model_is_not_compressed_again(easy, tmp_path):
    outcome = bitnet("compress", easy[1] / "packed", "--out", tmp_path / "out")
    assert_one_sentence(outcome, "compressed already")


def digests(folder: Path) -> dict[Path, str]:
    return {path: digest_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


# eval


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


# generate


def test_generate_prints_the_prompt_and_its_continuation(folder):
    model, tokenizer = load_folder(folder)
    outcome = bitnet("generate", folder, "the cat", "--max-new-tokens", "8")
    assert outcome.exit_code == 0
    assert outcome.stdout == "the cat" + "".join(generate(model, tokenizer, "the cat", 8)) + "\n"
    assert outcome.stderr == ""


@pytest.mark.parametrize("name", ["packed", "fp16"])
def test_both_artefacts_generate_and_a_seed_decides_what(name, easy):
    def sample(seed):
        arguments = ["the", "--max-new-tokens", "12", "--temperature", "1.5", "--seed", seed]
        outcome = bitnet("generate", easy[1] / name, *arguments)
        assert outcome.exit_code == 0, outcome.stderr
        return outcome.stdout

    first, again, other = sample(1), sample(1), sample(2)
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([""], "prompt is empty"),
        (["the " * 200], "128 positions"),
        (["the", "--temperature", "-1"], "temperature is -1"),
        (["the", "--temperature", "nan"], "temperature is nan"),
        (["\udcff"], "prompt"),
    ],
)
def test_a_bad_prompt_or_temperature_is_one_sentence(arguments, fragment, folder):
    assert_one_sentence(bitnet("generate", folder, *arguments), fragment)


# As a program


def test_the_program_reports_bad_input_without_a_traceback(tmp_path):
    assert_one_sentence(program("eval", "tiny", "--text", tmp_path / "absent.txt"), str(tmp_path / "absent.txt"))


def test_a_program_that_is_told_to_end_leaves_nothing_behind(folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "bitnet", "compress", str(folder), "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "1/7 load and validate" in process.stderr.readline()  # the temporary folder is there by now
    assert list(tmp_path.iterdir())
    process.terminate()
    output, log = process.communicate(timeout=60)
    assert (process.returncode, output) == (128 + signal.SIGTERM, "")
    assert "Traceback" not in log
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_the_program_quietly():
    process = subprocess.Popen(
        [sys.executable, "-m", "bitnet", "settings"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (141, "")
    process.stderr.close()


def test_a_character_that_the_output_cannot_show_does_not_stop_the_program(folder):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    outcome = program("generate", folder, "caf\u00e9", "--max-new-tokens", "4", env=environment)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("caf?")


def test_planes_and_minutes_are_settings_that_have_flags(monkeypatch, tmp_path):
    given = []

    def run(model, out, config, **_):
        given.append(config)
        raise BitnetError("enough seen")

    monkeypatch.setattr("bitnet.phase_controller.run_phase4", run)
    finished = bitnet("compress", "model", "--out", tmp_path / "out", "--planes", 2, "--max-minutes", 12.5)
    assert finished.exit_code == 2
    assert (given[0].planes, given[0].bits_budget, given[0].max_minutes) == (2, None, 12.5)
    bitnet("compress", "model", "--out", tmp_path / "out", "--set", "planes=3")
    assert (given[1].planes, given[1].bits_budget, given[1].max_minutes) == (3, 6.0, None)
    assert bitnet("compress", "model", "--out", tmp_path / "out", "--planes", 4).exit_code == 2
