import errno
import json
import os
import re
import shlex
import signal

import pytest

from bitnet import phase_controller
from bitnet.cli import main
from bitnet.errors import BitnetError
from bitnet.result import load_result, without_times
from tests.bitnet.cli.program import assert_one_sentence, bitnet, settings, table_rows


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
        assert (outcome.exit_code, outcome.stderr.splitlines()[-1]) == (
            130,
            "Interrupted: the same command goes on from here.",
        )
    else:
        assert_one_sentence(outcome, "This stage fails.")
    assert list(tmp_path.iterdir()) == []


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


ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate"), RuntimeError(ALLOCATOR), "caused"]
)
def test_too_little_memory_is_one_sentence(error, folder, texts, tmp_path, monkeypatch):
    def fail(*_):
        if error == "caused":
            raise BitnetError("Cannot load the model: check that it is complete.") from MemoryError()
        raise error

    monkeypatch.setattr(phase_controller, "calibrate", fail)
    outcome = bitnet("compress", folder, "--out", tmp_path / "out", *settings())
    assert_one_sentence(outcome, "not enough memory", "batch_size")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_not_taken_for_too_little_memory(folder, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(phase_controller, "calibrate", fail)
    assert isinstance(bitnet("compress", folder, "--out", tmp_path / "out", *settings()).exception, RuntimeError)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_run_as_ctrl_c_does(number, code, folder, tmp_path, monkeypatch):
    before = signal.getsignal(number)
    monkeypatch.setattr(phase_controller, "calibrate", lambda *_: os.kill(os.getpid(), number))
    monkeypatch.setattr("sys.argv", ["bitnet", "compress", str(folder), "--out", str(tmp_path / "out"), *settings()])
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, before)
    assert ended.value.code == code
    assert list(tmp_path.iterdir()) == []
