import math

import torch
from safetensors.torch import load_file, save_file

from bitnet import delivery
from bitnet.config import Phase4Config
from bitnet.delivery import AGREEMENT_TOKENS
from bitnet.errors import BitnetError
from bitnet.handoff_phase5 import check_phase5
from bitnet.packed_manifest import TENSORS
from bitnet.phase_controller import run_phase4
from bitnet.sizes import folder_bytes
from bitnet.verify import Verification, verify
from tests.bitnet.phase4 import LENIENT, SETTINGS, finish


def run(model, out, texts, **settings):
    config = Phase4Config(**{**SETTINGS, **LENIENT, **texts, "fine_tune_steps": 0, **settings})
    return run_phase4(str(model), out, config, progress=False)


def test_the_manifest_hands_everything_on(finished):
    manifest = check_phase5(finished.out)
    assert manifest.success
    assert manifest.command == finished.result.command
    assert manifest.metrics == finished.result.metrics
    assert [gate.name for gate in manifest.gates] == [gate.name for gate in finished.result.gates]
    assert manifest.phase3.synthesised
    assert {"result.json", "verification.safetensors", f"packed/{TENSORS}", f"fp16/{TENSORS}"} <= set(manifest.files)


def test_both_artefacts_hold_the_same_model(finished):
    dual = finished.result.dual_output
    assert dual.equal == dual.weights == finished.result.parameters
    assert dual.nonfinite == 0
    assert dual.positions == 640  # evaluation_tokens; ten windows of 64
    assert dual.agreement > 0.99


def test_the_comparison_has_a_bound_of_its_own(model_folder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "AGREEMENT_TOKENS", 70)
    done = finish(model_folder, tmp_path / "out", **texts, fine_tune_steps=0, evaluation_tokens=None)
    assert done.result.dual_output.positions == 64
    assert done.result.before.tokens > 640
    assert AGREEMENT_TOKENS >= 1024  # a step of the gate's 99.5 % is five positions


def test_sizes_are_those_of_the_folders(finished):
    sizes = finished.result.sizes
    assert sizes.packed_bytes == folder_bytes(finished.out / "packed")
    assert sizes.fp16_folder_bytes == folder_bytes(finished.out / "fp16")
    assert sizes.fp32_bytes == 4 * finished.result.parameters


def test_gradients_are_those_of_the_artefact(model_folder, texts, tmp_path, monkeypatch):
    """A layer whose stored scales are zero gets a gradient, but passes none on: the test on the artefact tells."""

    def save_damaged(packed, tokenizer, directory):
        layer = packed.layers["transformer.h.0.mlp.c_proj"]
        layer.scale.zero_()
        return save_packed(packed, tokenizer, directory)

    save_packed = delivery.save_packed
    monkeypatch.setattr(delivery, "save_packed", save_damaged)
    monkeypatch.setattr(delivery, "verify_in_fresh_process", verify)
    result = run(model_folder, tmp_path / "out", texts)
    layers = {layer.name: layer for layer in result.layers}
    assert layers["transformer.h.0.mlp.c_proj"].gradient_problem == "weight is zero"
    assert layers["transformer.h.0.mlp.c_fc"].gradient_problem == "gradient is zero"
    assert layers["transformer.h.1.mlp.c_fc"].gradient_norm > 0
    assert "gradient_flow" in {gate.name for gate in result.missed}
    assert not result.success


def test_a_process_that_fails_is_no_success_and_its_sentence_is_kept(model_folder, texts, tmp_path, monkeypatch):
    def fail(out, streamed):
        raise BitnetError("The artefacts could not be reloaded.")

    monkeypatch.setattr(delivery, "verify_in_fresh_process", fail)
    result = run(model_folder, tmp_path / "out", texts)
    assert not result.success
    assert result.missed == ()
    assert result.verification.error == "The artefacts could not be reloaded."
    assert result.verification.packed_difference is None


def test_logits_that_are_not_reproduced_are_no_success(model_folder, texts, tmp_path, monkeypatch):
    found = Verification(16, 0.0, math.nan, packed_identical=True, fp16_identical=True)
    monkeypatch.setattr(delivery, "verify_in_fresh_process", lambda out, streamed: found)
    result = run(model_folder, tmp_path / "out", texts)
    assert not result.success
    assert result.verification.fp16_difference is None
    assert result.verification.error is None


def test_what_is_written_wrongly_misses_the_gates(model_folder, texts, tmp_path, monkeypatch):
    def save_rounded(model, tokenizer, directory):
        save_fp16(model, tokenizer, directory)
        tensors = load_file(directory / TENSORS)
        name = "transformer.h.1.mlp.c_fc.weight"
        tensors[name] = torch.where(tensors[name] > 0, tensors[name] * 3, tensors[name])
        save_file(tensors, directory / TENSORS, metadata={"format": "pt"})

    save_fp16 = delivery.save_fp16
    monkeypatch.setattr(delivery, "save_fp16", save_rounded)
    monkeypatch.setattr(delivery, "verify_in_fresh_process", verify)
    result = run(model_folder, tmp_path / "out", texts)
    assert {"dequantization"} <= {gate.name for gate in result.missed}
    assert not result.verification.reproduced
    assert result.verification.packed_identical
    assert not result.verification.fp16_identical
    assert result.verification.fp16_difference > result.verification.tolerance
