import errno
import json
import shlex

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTBigCodeConfig

from bitnet import delivery, phase_controller
from bitnet.artifacts import load_packed
from bitnet.checkpoint import digest_file
from bitnet.compressor import compress
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.packed_manifest import TENSORS
from bitnet.phase_controller import run_phase4
from bitnet.result import load_result, without_times
from bitnet.text import heldout_text, training_text
from tests.bitnet.phase4 import LENIENT, SETTINGS, finish, sentences, write_model
from tests.bitnet.small_models import ARCHITECTURES, COMMON, model_from

STAGES = ("load and validate", "evaluate before", "calibrate", "compress", "evaluate after", "recover", "hand over")


def run(model, out, texts, force=False, **settings):
    return run_phase4(str(model), out, Phase4Config(**{**SETTINGS, **texts, **settings}), progress=False, force=force)


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(2, 34).reshape(2, 16)).logits


# A whole run


def test_a_run_passes_every_gate_and_writes_everything(finished):
    result = finished.result
    assert result.success
    assert result.missed == ()
    assert result.verification.reproduced
    assert {path.name for path in finished.out.iterdir()} == {
        "packed",
        "fp16",
        "result.json",
        "manifest.json",
        "verification.safetensors",
    }
    assert load_result(finished.out) == result
    assert [path for path in finished.out.parent.iterdir() if path != finished.out] == []


def test_seven_stages_are_timed_and_their_memory_is_recorded(finished):
    stages = finished.result.stages
    assert tuple(stage.name for stage in stages) == STAGES
    assert all(stage.duration > 0 for stage in stages)
    assert finished.result.duration == sum(stage.duration for stage in stages)
    peaks = [stage.peak_memory for stage in stages]
    assert peaks == sorted(peaks)
    assert peaks[0] > 50e6
    assert peaks[-1] < 20e9


def test_compression_costs_quality_and_recovery_takes_some_of_it_back(finished):
    result = finished.result
    assert result.before.token_perplexity < result.after.token_perplexity
    assert result.recovered.token_perplexity < result.after.token_perplexity
    assert result.final == result.recovered
    assert result.recovery.triggered
    assert result.recovery.perplexity_increase > result.recovery.trigger == 0.05
    assert result.recovery.report["steps"] == 6


def test_the_artefacts_are_the_recovered_model(finished):
    packed, _ = load_packed(finished.out / "packed")
    assert torch.equal(logits(packed.model), logits(finished.written.model))
    compressed = finished.written.dequantized(torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(finished.out / "fp16", dtype=torch.float32)
    assert torch.allclose(logits(plain), logits(compressed), atol=0.05)
    assert all(value.is_meta for value in finished.outcome.recovery.packed.model.parameters())  # memory given back


def test_the_full_precision_model_stays_as_it_was_until_nothing_needs_it(finished, model_folder, texts, tmp_path):
    settings = {**SETTINGS, **texts, "fine_tune_trigger": 0.0}
    begun = phase_controller.load(str(model_folder), tmp_path / "out", Phase4Config(**settings))
    calibration = phase_controller.calibrate(begun, lambda *_: None)
    made = compress(begun, calibration, tmp_path, lambda *_: None)
    before = phase_controller.evaluate(begun, begun.loaded.model)
    after = phase_controller.evaluate(begun, made.packed.model)
    phase_controller.recover_if_triggered(begun, made, calibration, before, after, lambda *_: None, tmp_path)
    original = AutoModelForCausalLM.from_pretrained(model_folder)
    assert torch.equal(logits(begun.loaded.model), logits(original))
    assert {parameter.device.type for parameter in finished.outcome.run.loaded.model.parameters()} == {"meta"}


def test_the_result_records_the_resolved_settings_and_who_set_them(finished):
    result = finished.result
    assert result.config["sparsity_threshold"] == 0.05
    assert result.config["compression_target"] == 1.0
    assert result.user_set == tuple(sorted({*SETTINGS, *LENIENT, "calibration_text", "evaluation_text"}))
    assert "sparsity_threshold" not in result.user_set


def test_the_command_in_the_result_repeats_the_run(finished):
    program, command, source, out_option, out, *settings = shlex.split(finished.result.command)
    assert (program, command, out_option) == ("bitnet", "compress", "--out")
    assert (source, out) == (finished.result.source, str(finished.out))
    overrides = [setting.removeprefix("--set=") for setting in settings]
    assert Phase4Config().with_overrides(overrides) == finished.config


def test_the_same_command_gives_the_same_bytes_and_the_same_result(finished, model_folder, texts, tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    again = finish(model_folder, tmp_path / "out", **texts, **LENIENT)
    assert torch.equal(torch.rand(1), expected)
    for part in ("packed", "fp16"):
        files = sorted(path.name for path in (finished.out / part).iterdir())
        assert files == sorted(path.name for path in (again.out / part).iterdir())
        for name in files:
            assert digest_file(finished.out / part / name) == digest_file(again.out / part / name)
    first, second = (without_times(each.result.model_dump(mode="json")) for each in (finished, again))
    assert shlex.split(first.pop("command"))[5:] == shlex.split(second.pop("command"))[5:]
    assert first == second


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_goes_through_and_what_misses_a_gate_is_written_all_the_same(architecture, texts, tmp_path):
    model = write_model(tmp_path / "model", architecture)
    done = finish(model, tmp_path / "out", **texts, fine_tune_trigger=0.0, fine_tune_steps=1, compression_target=1000.0)
    result = done.result
    assert not result.success
    assert "compression_ratio" in {gate.name for gate in result.missed}
    assert {gate.name for gate in result.missed} <= {"compression_ratio", "perplexity_increase", "accuracy_drop"}
    assert result.verification.reproduced
    assert result.recovery.triggered == (result.after.token_perplexity > result.before.token_perplexity)
    assert result.model_type == architecture
    assert len(result.layers) == sum(row.quantized for row in result.plan)
    assert all(layer.gradient_problem is None for layer in result.layers)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"packed", "fp16", "result.json", "manifest.json"}


def test_a_run_without_calibration_weights_recovery_or_int8_activations(model_folder, texts, tmp_path):
    done = finish(
        model_folder, tmp_path / "out", **texts, rule="absmean", fine_tune_trigger=100.0, activation_bits=None
    )
    assert not done.result.calibration.second_moments
    assert done.result.recovery.triggered is False
    assert done.result.recovered is None
    assert done.result.final == done.result.after
    assert done.result.dual_output.agreement_int8 is None
    assert [row.step for row in done.result.fallbacks] == []


def test_what_was_not_done_as_asked_is_listed(model_folder, texts, tmp_path):
    done = finish(model_folder, tmp_path / "out", **texts, calibration_samples=10**6, fine_tune_steps=0)
    rows = {row.step: row for row in done.result.fallbacks}
    assert set(rows) == {"calibration_samples", "recovery"}
    report = done.result.calibration
    assert report.shortfall == report.requested_samples - report.used_samples > 0
    assert rows["calibration_samples"].used == f"{report.used_samples} of 1000000 samples"
    assert rows["recovery"].reason == "fine_tune_steps is 0"


def test_without_a_text_the_standard_library_provides_one(model_folder, tmp_path):
    found = phase_controller.load(str(model_folder), tmp_path / "out", Phase4Config(**SETTINGS))
    assert [(row.step, row.used) for row in found.fallbacks] == [
        ("calibration_text", "standard library (training part)"),
        ("evaluation_text", "standard library (held-out part)"),
    ]
    assert found.calibration_text.content == training_text()
    assert found.evaluation_text.content == heldout_text()


def test_default_lengths_are_cut_to_the_models_positions(texts, tmp_path):
    config = Phase4Config(**texts)
    model = write_model(tmp_path / "model", "llama")
    found = phase_controller.load(str(model), tmp_path / "out", config)
    assert (found.config.context_length, found.config.calibration_tokens) == (128, 128)
    assert [(row.step, row.used) for row in found.fallbacks] == [("context_length", "128 tokens")]
    assert found.user_set == ("calibration_text", "evaluation_text")


# Errors: one sentence, and nothing is left


@pytest.fixture
def refused(tmp_path, texts):
    """Checks that a run is refused with these words and leaves nothing behind."""

    def check(model, words, error=BitnetError, **settings):
        with pytest.raises(error, match=words) as caught:
            run(model, tmp_path / "deep" / "out", {**texts, **settings})
        assert not (tmp_path / "deep").exists()
        assert "\n" not in str(caught.value)

    return check


def test_a_weight_that_is_not_a_number_is_named(refused, tmp_path):
    model = write_model(tmp_path / "model", "llama")
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    refused(model, r"'model\.layers\.0\.mlp\.up_proj\.weight' holds NaN")


def test_another_architecture_is_named(refused, tmp_path):
    config = GPTBigCodeConfig(**COMMON, n_embd=32, n_layer=1, n_head=4, n_positions=64)
    model = write_model(tmp_path / "model", model=model_from(config))
    refused(model, r"type 'gpt_bigcode' are not supported")


def test_a_missing_model_is_named(refused, tmp_path):
    refused(tmp_path / "nowhere", "nowhere")


def test_a_packed_model_is_not_compressed_again(refused, finished):
    refused(finished.out / "packed", "compressed already")


@pytest.mark.parametrize("setting", ["calibration_text", "evaluation_text"])
def test_a_text_that_is_too_short_is_refused(setting, refused, model_folder, tmp_path):
    (tmp_path / "short.txt").write_text("something else")
    refused(
        model_folder,
        r"(evaluation text .* is too short|calibration text has \d+ tokens)",
        **{setting: tmp_path / "short.txt"},
    )


@pytest.mark.parametrize("setting", ["calibration_text", "evaluation_text"])
def test_a_missing_text_is_named(setting, refused, model_folder, tmp_path):
    refused(model_folder, r"missing\.txt", **{setting: tmp_path / "missing.txt"})


def test_one_text_for_both_purposes_is_refused(refused, model_folder, texts):
    refused(model_folder, "is also the evaluation text", calibration_text=texts["evaluation_text"])


@pytest.mark.parametrize("inner", ["calibration_text", "evaluation_text"])
def test_a_text_that_holds_the_other_is_refused(inner, refused, model_folder, texts, tmp_path):
    outer = {"calibration_text": "evaluation_text", "evaluation_text": "calibration_text"}[inner]
    text = texts[inner].read_text().replace(" ", "\n ")
    (tmp_path / "larger.txt").write_text(sentences(3, 8) + text + sentences(3, 9))
    refused(model_folder, "overlap", **{outer: tmp_path / "larger.txt"})


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("context_length", 129, "context_length is 129, but the model has 128 positions"),
        ("calibration_tokens", 129, "calibration_tokens is 129, but the model has 128 positions"),
        ("evaluation_tokens", 127, "evaluation_tokens = 127 is too few"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting, value, words, refused, model_folder):
    refused(model_folder, words, **{setting: value})


def test_an_invalid_manifest_of_the_phase_before_is_refused(refused, tmp_path):
    model = write_model(tmp_path / "model", "llama")
    (model / "phase3.json").write_text(json.dumps({"model_path": "x"}))
    refused(model, r"phase3\.json is invalid")


@pytest.mark.parametrize("place", ["evaluate", "deliver"])
def test_ctrl_c_leaves_nothing(place, refused, model_folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(phase_controller, place, interrupt)
    refused(model_folder, None, error=KeyboardInterrupt)


def test_ctrl_c_while_writing_leaves_nothing(refused, model_folder, monkeypatch):
    def interrupt(model, tokenizer, directory):
        model.save_pretrained(directory)
        raise KeyboardInterrupt

    monkeypatch.setattr(delivery, "save_fp16", interrupt)
    refused(model_folder, None, error=KeyboardInterrupt)


def test_a_full_disk_is_one_sentence(refused, model_folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(delivery, "save_packed", full)
    refused(model_folder, r"Cannot write .*out \(No space left on device\): choose a place with room")


# What stands at the output already


def test_an_earlier_run_is_replaced_only_when_forced(model_folder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "verify_in_fresh_process", delivery_verify)
    out = tmp_path / "out"
    out.mkdir()  # empty, so there is nothing to lose
    first = run(model_folder, out, texts, fine_tune_steps=0)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(BitnetError, match="already exists: choose another --out, or pass --force"):
        run(model_folder, out, texts, fine_tune_steps=0)
    assert (out / "notes.txt").exists()
    assert load_result(out) == first
    second = run(model_folder, out, texts, force=True, fine_tune_steps=0, codec="base3")
    assert not (out / "notes.txt").exists()
    assert load_result(out) == second
    assert second.config["codec"] == "base3"


def delivery_verify(out, streamed):
    from bitnet.verify import verify

    return verify(out, streamed)


def test_a_forced_run_that_fails_leaves_the_earlier_one(finished, model_folder, texts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("result.json", "manifest.json"):
        (out / name).write_bytes((finished.out / name).read_bytes())

    def fail(*_, **__):
        raise BitnetError("no.")

    monkeypatch.setattr(phase_controller, "deliver", fail)
    with pytest.raises(BitnetError, match="no"):
        run(model_folder, out, texts, force=True, fine_tune_steps=0)
    assert load_result(out) == finished.result
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_no_earlier_run_is_never_replaced(model_folder, texts, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("text")
    with pytest.raises(BitnetError, match="thesis holds no earlier run"):
        run(model_folder, tmp_path / "thesis", texts, force=True)
    with pytest.raises(BitnetError, match=r"chapter\.txt holds no earlier run"):
        run(model_folder, tmp_path / "thesis" / "chapter.txt", texts, force=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "text"


def test_an_output_that_the_run_reads_from_is_never_replaced(finished, model_folder, texts):
    with pytest.raises(BitnetError, match="which would be replaced"):
        run(finished.out / "fp16", finished.out, texts, force=True)
    with pytest.raises(BitnetError, match=r"result\.json lies in"):
        run(model_folder, finished.out, {**texts, "calibration_text": finished.out / "result.json"}, force=True)
    assert (finished.out / "packed" / TENSORS).is_file()


def test_an_output_within_the_models_own_folder_is_refused(texts, tmp_path):
    model = write_model(tmp_path / "model", "llama")
    with pytest.raises(BitnetError, match="lies in the folder of the model"):
        run(model, model / "out", texts)
    assert not (model / "out").exists()


def test_progress_is_shown_when_wanted(model_folder, texts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(delivery, "verify_in_fresh_process", delivery_verify)
    config = Phase4Config(**{**SETTINGS, **texts, "fine_tune_steps": 1})
    run_phase4(str(model_folder), tmp_path / "out", config, progress=True)
    output, log = capsys.readouterr()
    assert output == ""
    assert all(f"{number}/7 {name}" in log for number, name in enumerate(STAGES, start=1))
