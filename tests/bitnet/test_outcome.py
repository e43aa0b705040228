import dataclasses

import pytest

from bitnet.compressed_model import matrix
from bitnet.dual_output import load_fp16
from bitnet.fine_tuner import RecoveryReport
from bitnet.huggingface import load_folder
from bitnet.packed_manifest import TENSORS
from bitnet.quality import EXPLANATIONS
from bitnet.sizes import tensor_bytes

REPORT = RecoveryReport(
    planned_steps=6,
    steps=6,
    best_step=6,
    epochs=0.5,
    tokens=1000,
    seconds=1.0,
    operations_per_step=1e9,
    codes_flipped=0.01,
    training=(),
    selection=(),
    stopped=None,
)


@pytest.fixture
def outcome(finished):
    return finished.outcome


def with_recovery(outcome, report, triggered=True, **settings):
    recovery = dataclasses.replace(outcome.recovery, report=report, triggered=triggered)
    run = dataclasses.replace(outcome.run, config=outcome.run.config.model_copy(update=settings))
    return dataclasses.replace(outcome, recovery=recovery, run=run)


def test_gates_compare_what_was_written_with_the_full_precision_model(outcome):
    gates = {gate.name: gate for gate in outcome.gates}
    assert list(gates) == list(EXPLANATIONS)
    before, final = outcome.before, outcome.recovery.figures
    assert gates["perplexity_increase"].measured == pytest.approx(final.token_perplexity / before.token_perplexity - 1)
    assert gates["accuracy_drop"].measured == pytest.approx(1 - final.next_token_accuracy / before.next_token_accuracy)
    assert gates["compression_ratio"].measured == outcome.sizes.compression_ratio
    assert gates["gradient_flow"].measured == 1.0
    assert gates["dequantization"].measured == 1.0
    assert gates["agreement"].measured == outcome.dual.agreement
    assert gates["finiteness"].measured == 0.0


@pytest.mark.parametrize(
    ("part", "change", "gate"),
    [
        ("dual", {"equal": 1}, "dequantization"),
        ("dual", {"agreement": 0.99}, "agreement"),
        ("dual", {"agreement": float("nan")}, "agreement"),
        ("dual", {"nonfinite": 1}, "finiteness"),
        ("flow", {"layers": ()}, "gradient_flow"),
        ("sizes", {"packed_bytes": 10**12}, "compression_ratio"),
    ],
)
def test_one_missed_gate_is_no_success(outcome, part, change, gate):
    assert outcome.success
    worse = dataclasses.replace(outcome, **{part: dataclasses.replace(getattr(outcome, part), **change)})
    assert [each.name for each in worse.gates if not each.passed] == [gate]
    assert not worse.success


def test_no_success_without_verification(outcome):
    unverified = outcome.verification.model_copy(update={"reproduced": False})
    assert not dataclasses.replace(outcome, verification=unverified).success


def test_without_recovery_the_model_after_compression_is_final(outcome):
    recovery = dataclasses.replace(outcome.recovery, figures=None, report=None, triggered=False)
    without = dataclasses.replace(outcome, recovery=recovery)
    assert without.final is outcome.after
    assert outcome.final is outcome.recovery.figures
    metrics = without.metrics()
    assert len(metrics) == 15
    assert not any("finetune" in name or "fine_tune" in name or "recovery" in name for name in metrics)


def test_all_19_metrics_are_measured_by_a_run_that_recovers(outcome, finished):
    metrics = outcome.metrics()
    assert len(metrics) == 19
    assert metrics == finished.result.metrics
    assert metrics["compression/layers_quantized"] == len(finished.result.layers)
    assert metrics["compression/layers_compressed"] == len(finished.result.layers) + 2  # tables: tokens, positions
    assert metrics["compression/fine_tune_epochs"] == outcome.recovery.report.epochs
    assert len(finished.result.phase) == 8
    assert finished.result.phase["quantization_method"] == "optimal-channel-2bit"


def test_tables_in_float32_are_not_compressed(outcome):
    plain = with_recovery(outcome, REPORT, embedding_dtype="float32")
    metrics = plain.metrics()
    assert metrics["compression/layers_compressed"] == metrics["compression/layers_quantized"]


@pytest.mark.parametrize(
    ("report", "triggered", "settings", "rows"),
    [
        (REPORT, True, {}, []),
        (None, False, {"fine_tune_steps": 0}, []),
        (None, True, {"fine_tune_steps": 0}, [("recovery", "none", "fine_tune_steps is 0")]),
        (None, True, {}, [("recovery", "none", "no text is left to select weights by")]),
        (
            dataclasses.replace(REPORT, planned_steps=4, steps=4),
            True,
            {},
            [("fine_tune_steps", "4 of 6 steps", "fine_tune_budget pays for no more")],
        ),
        (
            dataclasses.replace(REPORT, planned_steps=4, steps=1, stopped="the loss of step 2 is not finite"),
            True,
            {},
            [
                ("fine_tune_steps", "4 of 6 steps", "fine_tune_budget pays for no more"),
                ("recovery", "1 of 4 steps", "the loss of step 2 is not finite"),
            ],
        ),
    ],
)
def test_what_recovery_did_not_do_as_asked_is_listed(outcome, report, triggered, settings, rows):
    found = with_recovery(outcome, report, triggered, **settings).fallbacks
    assert [(row.step, row.used, row.reason) for row in found] == rows


def test_layers_are_recorded_as_stored(finished):
    stored = tensor_bytes(finished.out / "packed" / TENSORS)
    for layer in finished.result.layers:
        assert layer.bytes == stored[f"{layer.name}.packed"] + stored[f"{layer.name}.scale"]
        assert layer.gradient_norm > 0
        assert layer.gradient_problem is None
    weights = sum(rows * columns for rows, columns in (layer.shape for layer in finished.result.layers))
    assert weights == finished.result.sizes.quantized_weights
    zeros = sum(layer.zero_fraction * layer.shape[0] * layer.shape[1] for layer in finished.result.layers)
    assert finished.result.zero_fraction == pytest.approx(zeros / weights)


def test_the_plan_accounts_for_every_parameter(finished):
    assert sum(row.parameters for row in finished.result.plan) == finished.result.parameters
    assert {row.name for row in finished.result.plan if row.quantized} == {
        layer.name for layer in finished.result.layers
    }


def test_the_weight_error_of_a_layer_is_that_of_the_written_model(finished, model_folder):
    (original, _), (written, _) = load_folder(model_folder), load_fp16(finished.out / "fp16")
    for layer in finished.result.layers:
        before, after = (matrix(model.get_submodule(layer.name)).float() for model in (original, written))
        expected = float((before - after).square().sum() / before.square().sum())
        assert layer.weight_error == pytest.approx(expected, rel=1e-5)
        assert expected > 0.0
