import math

import pytest
import torch
from safetensors.torch import load_file

from bitnet.artifacts import load_packed, load_trainable
from bitnet.block_inputs import head_inputs
from bitnet.checkpoint import work_folder
from bitnet.errors import BitnetError
from bitnet.packed_manifest import read_manifest
from bitnet.phase_controller import run_phase4
from bitnet.tables import decode_table, encode_table
from tests.bitnet.phase4 import LENIENT, finish, write_model, write_texts

COMPENSATED = {
    "compensation": "sequential",
    "compensation_samples": 8,
    "compensation_tokens": 32,
    "granularity": "group",
    "group_size": 16,
    "codec": "base3",
    "fine_tune_steps": 0,
    "compression_target": 1.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def evaluation(texts):
    return {"evaluation_text": texts["evaluation_text"]}


def steps(result):
    return [row.step for row in result.fallbacks]


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])  # tied, and not
def test_a_head_of_six_bits_makes_up_for_its_error(texts, tmp_path, architecture):
    """Stored in the codes that compensation chose, recovery after it or not, and better than in the nearest ones."""
    model = write_model(tmp_path / "model", architecture)
    settings = {**COMPENSATED, **texts, "max_accuracy_drop": 1.0, "planes": 3, "fine_tune_trigger": 0.0}
    whole = finish(model, tmp_path / "whole", **settings, embedding_dtype="float32")
    made = finish(model, tmp_path / "made", **settings, embedding_dtype="int6")
    trained = finish(model, tmp_path / "trained", **{**settings, "fine_tune_steps": 2}, embedding_dtype="int6")
    assert made.result.verification.reproduced
    head, other, given = (x.written.model.get_output_embeddings().weight for x in (made, trained, whole))
    assert torch.equal(head, other)
    nearest = decode_table(encode_table("head", given, "int6"), given.shape[1])
    assert not torch.equal(head, nearest)
    inputs = torch.cat([head_inputs(whole.written.model, ids) for ids in torch.arange(280).view(-1, 1, 40)]).flatten(
        0, 1
    )
    lost = [float(((table - given) @ inputs.T).square().mean()) for table in (head, nearest)]
    assert lost[0] < lost[1]


@pytest.mark.parametrize("planes", [1, 2])
def test_compensation_goes_through_the_phase_on_the_models_own_text(folder, evaluation, tmp_path, monkeypatch, planes):
    monkeypatch.setenv("BITNET_AUDIT_CACHE", str(tmp_path / "cache"))
    finished = finish(folder, tmp_path / "out", **COMPENSATED, **evaluation, max_accuracy_drop=1.0, planes=planes)
    result = finished.result
    assert result.success
    assert result.calibration.compensation.source.startswith("written by the model itself")
    assert result.calibration.compensation.samples == 8
    assert result.dual_output.equal == result.dual_output.weights
    assert result.dual_output.agreement >= 0.995
    assert {layer.planes for layer in result.layers} == {planes}
    assert all(layer.scale is not None for layer in load_trainable(tmp_path / "out" / "packed").layers.values())
    assert not work_folder(tmp_path / "out").exists()
    assert len(list((tmp_path / "cache" / "written").iterdir())) == 1
    finish(folder, tmp_path / "again", **COMPENSATED, **evaluation, max_accuracy_drop=1.0, planes=planes)
    packed = [(path / "packed" / "model.safetensors").read_bytes() for path in (tmp_path / "out", tmp_path / "again")]
    assert packed[0] == packed[1]


def test_planes_of_the_start_go_where_they_promise_most_and_blocks_are_trained(folder, texts, tmp_path):
    settings = {**COMPENSATED, **texts, "starting_bits": 4.0, "max_accuracy_drop": 1.0}
    plain, trained = (
        finish(folder, tmp_path / str(steps), **settings, reconstruction_steps=steps, reconstruction_samples=4)
        for steps in (0, 4)
    )
    planes = {layer.name: layer.planes for layer in plain.result.layers}
    assert len(set(planes.values())) > 1
    weights = sum(math.prod(layer.shape) for layer in plain.result.layers)
    assert 3.5 < 8 * sum(layer.bytes for layer in plain.result.layers) / weights <= 4.0
    assert {layer.name: layer.planes for layer in trained.result.layers} == planes
    assert trained.result.success
    codes = [(tmp_path / steps / "packed" / "model.safetensors").read_bytes() for steps in ("0", "4")]
    assert codes[0] != codes[1]


def test_smoothing_goes_through_the_phase_where_it_is_known_how(folder, texts, tmp_path):
    settings = {**COMPENSATED, **texts, "max_accuracy_drop": 1.0, "smoothing": 0.5}
    smoothed = finish(folder, tmp_path / "smoothed", **settings).result
    plain = finish(folder, tmp_path / "plain", **{**settings, "smoothing": 0.0}).result
    assert "smoothing" not in steps(smoothed)
    assert smoothed.success
    assert smoothed.before == plain.before
    assert smoothed.after != plain.after
    norms = [load_file(tmp_path / name / "packed" / "model.safetensors") for name in ("smoothed", "plain")]
    assert not torch.equal(*(tensors["model.layers.0.input_layernorm.weight"] for tensors in norms))
    other = write_model(tmp_path / "gpt2", "gpt2")
    assert "smoothing" in steps(finish(other, tmp_path / "out", **settings).result)


def test_given_text_is_read_and_a_model_that_writes_nothing_falls_back(folder, texts, tmp_path, monkeypatch):
    given = finish(folder, tmp_path / "given", **COMPENSATED, **texts).result
    assert given.calibration.compensation.source == str(texts["calibration_text"])

    def fail(*_):
        raise BitnetError("The model predicts NaN.")

    monkeypatch.setattr("bitnet.compensation_text.sample_sequences", fail)
    monkeypatch.setenv("BITNET_AUDIT_CACHE", str(tmp_path / "cache"))
    default = finish(folder, tmp_path / "default", **COMPENSATED, evaluation_text=texts["evaluation_text"]).result
    assert default.calibration.compensation.source == "standard library (training part)"
    assert "compensation_source" in steps(default)


def test_more_planes_are_added_until_the_gates_of_quality_pass(folder, texts, tmp_path):
    strict = {"max_accuracy_drop": 0.05, "max_minutes": 30.0}
    one = finish(folder, tmp_path / "one", **COMPENSATED, **texts, max_accuracy_drop=0.05).result
    assert not one.success
    assert one.attempts == ()
    result = finish(folder, tmp_path / "out", **COMPENSATED, **texts, **strict).result
    assert "more planes" in steps(result)
    assert result.attempts[0].name == "as configured"
    assert result.attempts[0].layers_by_planes == {1: 14}
    assert result.attempts[1].name.startswith("more planes")
    assert result.final.token_perplexity == min(attempt.token_perplexity for attempt in result.attempts)
    assert result.final.token_perplexity < one.final.token_perplexity
    assert max(layer.planes for layer in result.layers) > 1
    assert result.sizes.bits_per_weight <= 6.0


def test_the_costliest_layers_are_kept_in_half_precision_at_last(folder, texts, tmp_path):
    out = tmp_path / "out"
    settings = {**COMPENSATED, "max_accuracy_drop": 0.0, "max_minutes": 30.0, "bits_budget": 2.8}
    result = finish(folder, out, **settings, **texts).result
    rows = {row.step: row.used for row in result.fallbacks}
    assert rows["half precision"].startswith("half precision for")
    if "half precision" in result.attempts[-1].name and result.final.token_perplexity == (
        result.attempts[-1].token_perplexity
    ):
        kept = read_manifest(out / "packed").kept
        assert kept
        model = load_packed(out / "packed")[0].model
        for name in kept:
            weight = model.get_submodule(name).weight
            assert torch.equal(weight, weight.half().float())
            assert any(row.name == name and not row.quantized for row in result.plan)


def test_without_compensation_the_chain_says_what_it_cannot_do(folder, texts, tmp_path):
    settings = {"compression_target": 1.0, "max_accuracy_drop": 0.0, "max_minutes": 30.0, "fine_tune_steps": 4}
    result = finish(folder, tmp_path / "out", **texts, **settings).result
    reasons = {row.step: row.reason for row in result.fallbacks}
    assert "without compensation" in reasons["more planes"]
    assert reasons["fallback chain"].startswith("no step is left")
    assert not result.success


def test_longer_recovery_comes_first_where_it_helps(folder, texts, tmp_path):
    settings = {"compression_target": 1.0, "max_accuracy_drop": 0.0, "max_minutes": 30.0}
    result = finish(folder, tmp_path / "out", **texts, **settings).result
    names = [attempt.name for attempt in result.attempts]
    assert names[:2] == ["as configured", "longer recovery (12 steps)"] or "longer recovery" in steps(result)


def test_no_step_starts_when_the_time_is_over(folder, texts, tmp_path, monkeypatch):
    settings = {**COMPENSATED, "max_accuracy_drop": 0.0, "max_minutes": 1e-6}
    result = finish(folder, tmp_path / "out", **settings, **texts).result
    assert result.fallbacks[-1].reason == "max_minutes are over"
    assert len(result.attempts) == 1


def test_a_run_that_was_interrupted_takes_up_the_layers_that_are_there(folder, texts, tmp_path, monkeypatch):
    expected = finish(folder, tmp_path / "whole", **COMPENSATED, **texts)
    out = tmp_path / "out"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bitnet.compressor.CompressedModel.from_planes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_phase4(str(folder), out, expected.config, progress=False)
    kept = list((work_folder(out) / "layers").iterdir())
    assert len(kept) == 14
    assert not out.exists()

    with monkeypatch.context() as patch:
        patch.setattr("bitnet.ternarizer.compensate", interrupt)  # nothing is left to be done
        again = finish(folder, out, **COMPENSATED, **texts)
    assert again.result.success == expected.result.success
    assert not work_folder(out).exists()
    packed = [(path / "packed" / "model.safetensors").read_bytes() for path in (expected.out, out)]
    assert packed[0] == packed[1]


def test_lenient_limits_need_no_chain(folder, texts, tmp_path):
    settings = {**COMPENSATED, **LENIENT, "max_minutes": 30.0}
    result = finish(folder, tmp_path / "out", **settings, **texts).result
    assert [attempt.name for attempt in result.attempts] == ["as configured"]
