"""Tracking: what a compression logs with Weights & Biases, read back from W&B's own files and derived anew.

Two compressions are tracked: one with recovery, which measures everything, and one without it, whose server does not
answer. A value that was not measured must be absent; a server that is down must not stop anything.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from harness.evidence import Evidence
from harness.oracles.perplexity import greedy_accuracy, lm_eval_perplexity
from harness.subject import CompressesModels, CompressionOutcome, Subject, TracksRuns, require
from harness.texts import PROSE, held_out_excerpt
from suites.fixtures_small import SmallFiles
from suites.small_models import byte_tokenizer, save_random_llama
from suites.stored_weights import preserved_parameters, stored_weight, value_at
from suites.test_compression import folder_bytes
from suites.test_gradient_flow import gradient_faults
from suites.wandb_records import Logged, read_logged

BEFORE: Final = {"original_size_mb", "pre_perplexity", "pre_eval_loss"}
PROCESS: Final = {
    "compressed_size_mb",
    "ratio",
    "layers_compressed",
    "sparsity_ratio",
    "quantized_params",
    "total_params",
    "layers_quantized",
}
AFTER: Final = {
    "post_perplexity",
    "perplexity_degradation",
    "accuracy_preserved",
    "dequantization_accuracy",
    "gradient_flow_test_passed",
}
RECOVERY: Final = {"post_finetune_perplexity", "perplexity_recovery", "fine_tune_epochs", "fine_tune_time_hours"}
SUMMARY: Final = {
    "compression_ratio",
    "original_size_mb",
    "compressed_size_mb",
    "final_perplexity",
    "accuracy_preserved",
    "success",
    "quantization_method",
    "sparsity_ratio",
}
NOBODY: Final = "http://127.0.0.1:9"
"""Where no server answers: the port of a service that throws everything away."""
LESSON_CHARACTERS, LESSON_STEPS = 1_024, 25
SAME: Final = 1e-5
"""Relative: one number measured twice in float32, in batches of another size."""

tracks = pytest.mark.criterion("2.wandb-logging")


@dataclass(frozen=True)
class Tracked:
    """A tracked compression of the model in `folder`; `hours` is how long the whole of it took."""

    folder: Path
    outcome: CompressionOutcome
    logged: Logged
    hours: float

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics by their names without the prefix; they are logged once."""
        (entry,) = self.logged.history
        return {name.removeprefix("compression/"): value for name, value in entry.items()}

    @property
    def original(self) -> PreTrainedModel:
        """The model before compression."""
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()


def tracked(subject: Subject, folder: Path, out: Path, overrides: Mapping[str, str], server: str | None) -> Tracked:
    started = time.monotonic()
    outcome, file = require(subject, TracksRuns).compress_tracked(folder, out, overrides, server)
    return Tracked(folder, outcome, read_logged(file), (time.monotonic() - started) / 3600)


@pytest.fixture(scope="module")
def recovered(subject: Subject, small: SmallFiles, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """A model that has learnt something, so that compression does harm and recovery runs."""
    root = tmp_path_factory.mktemp("tracked")
    model = save_random_llama(root / "model", layers=1, change=teach)
    overrides = {**small.overrides, "fine_tune_trigger": "0", "fine_tune_steps": "4"}
    return tracked(subject, model, root / "out", overrides, None)


def teach(model: PreTrainedModel) -> None:
    """Let the model learn a little, so that compression has something to spoil."""
    read = byte_tokenizer().encode(held_out_excerpt(LESSON_CHARACTERS))
    tokens = torch.tensor(read[: len(read) // 64 * 64]).reshape(-1, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(LESSON_STEPS):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def unanswered(subject: Subject, small: SmallFiles, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """No recovery, and a server that does not answer."""
    return tracked(subject, small.model, tmp_path_factory.mktemp("unanswered") / "out", small.overrides, NOBODY)


@tracks
def test_a_run_logs_the_nineteen_metrics_once_and_nothing_else(recovered: Tracked, evidence: Evidence) -> None:
    names = BEFORE | PROCESS | AFTER | RECOVERY
    assert recovered.logged.finished, "the record breaks off"
    assert len(recovered.logged.history) == 1
    evidence.figure("metrics", len(recovered.logged.history[0]))
    assert recovered.logged.history[0].keys() == {f"compression/{name}" for name in names}
    for name, value in recovered.metrics.items():
        assert isinstance(value, bool if name == "gradient_flow_test_passed" else int | float), name
        assert math.isfinite(value), name


@tracks
def test_the_summary_of_the_phase_says_the_same(recovered: Tracked, unanswered: Tracked) -> None:
    """The eight values, each equal to the metric that it sums up; W&B adds the last value of each metric."""
    for run in (recovered, unanswered):
        phase = {name.removeprefix("phase/"): v for name, v in run.logged.summary.items() if name.startswith("phase/")}
        others = {name for name in run.logged.summary if not name.startswith("phase/")}
        assert phase.keys() == SUMMARY
        assert others <= run.logged.history[0].keys()
        metrics = run.metrics
        for name in ("original_size_mb", "compressed_size_mb", "accuracy_preserved", "sparsity_ratio"):
            assert phase[name] == metrics[name], name
        assert phase["compression_ratio"] == metrics["ratio"]
        assert phase["final_perplexity"] == metrics.get("post_finetune_perplexity", metrics["post_perplexity"])
        assert isinstance(phase["success"], bool)
        assert phase["success"] == run.outcome.result["success"]
        assert phase["quantization_method"]


@tracks
def test_what_was_not_measured_is_absent(unanswered: Tracked) -> None:
    """Recovery did not run, so that there is nothing to log of it: not even zeros."""
    assert unanswered.metrics.keys() == BEFORE | PROCESS | AFTER


@tracks
def test_a_server_that_does_not_answer_stops_nothing(subject: Subject, unanswered: Tracked) -> None:
    """The artefacts are there, the record is kept, and the result names what was done instead."""
    model, _ = require(subject, CompressesModels).load_packed(unanswered.outcome.packed)
    assert model is not None
    assert unanswered.logged.finished
    fallbacks = json.dumps(unanswered.outcome.result["fallbacks"]).lower()
    assert any(word in fallbacks for word in ("tracking", "wandb", "w&b")), fallbacks


@tracks
def test_sizes_and_counts_are_those_of_the_files(subject: Subject, recovered: Tracked, unanswered: Tracked) -> None:
    for run in (recovered, unanswered):
        weights = require(subject, CompressesModels).quantized_weights(run.outcome.packed)
        planes = [plane.codes for weight in weights.values() for plane in weight.planes]
        parameters, size = sum(p.numel() for p in run.original.parameters()), folder_bytes(run.outcome.packed)
        assert run.metrics["total_params"] == parameters
        assert run.metrics["original_size_mb"] == pytest.approx(4 * parameters / 1e6, rel=1e-9)
        assert run.metrics["compressed_size_mb"] == pytest.approx(size / 1e6, rel=1e-9)
        assert run.metrics["ratio"] == pytest.approx(4 * parameters / size, rel=1e-9)
        assert run.metrics["quantized_params"] == sum(weight.codes.numel() for weight in weights.values())
        assert run.metrics["layers_quantized"] == len(weights) <= run.metrics["layers_compressed"]
        zeros = sum(int((codes == 0).sum()) for codes in planes) / sum(codes.numel() for codes in planes)
        assert run.metrics["sparsity_ratio"] == pytest.approx(zeros, rel=1e-9)


@tracks
def test_quality_is_that_of_the_models(
    subject: Subject, small: SmallFiles, recovered: Tracked, unanswered: Tracked
) -> None:
    """By lm-eval, before and after; what is relative follows from what is not."""
    for run, final in ((recovered, "post_finetune_perplexity"), (unanswered, "post_perplexity")):
        report = run.outcome.report
        length = 512 if report is None else report.context_length
        text, tokenizer = small.evaluation_text.read_text(encoding="utf-8"), AutoTokenizer.from_pretrained(run.folder)
        packed, _ = require(subject, CompressesModels).load_packed(run.outcome.packed)
        before = lm_eval_perplexity(run.original, tokenizer, [text], length).token_perplexity
        after = lm_eval_perplexity(packed, tokenizer, [text], length).token_perplexity
        metrics = run.metrics
        assert metrics["pre_perplexity"] == pytest.approx(before, rel=SAME)
        assert metrics["pre_eval_loss"] == pytest.approx(math.log(before), rel=SAME)
        assert metrics[final] == pytest.approx(after, rel=SAME)
        assert metrics["perplexity_degradation"] == pytest.approx(after / before - 1, rel=SAME, abs=SAME)
        kept = greedy_accuracy(packed, tokenizer, text, length) / greedy_accuracy(run.original, tokenizer, text, length)
        assert metrics["accuracy_preserved"] == pytest.approx(kept, rel=1e-9)


@tracks
def test_recovery_is_told_by_what_it_took_back(recovered: Tracked) -> None:
    metrics = recovered.metrics
    lost = metrics["post_perplexity"] - metrics["pre_perplexity"]
    assert lost > 0, "compression did no harm, so that there was nothing to recover"
    taken_back = (metrics["post_perplexity"] - metrics["post_finetune_perplexity"]) / lost
    assert metrics["perplexity_recovery"] == pytest.approx(taken_back, rel=1e-9)
    assert 0 < metrics["fine_tune_time_hours"] < recovered.hours
    assert metrics["fine_tune_epochs"] > 0


@tracks
def test_the_artefacts_are_as_they_are_said_to_be(subject: Subject, recovered: Tracked, unanswered: Tracked) -> None:
    """Half(scale x codes) of the packed model in the FP16 one, and gradients in every quantized layer."""
    compresses = require(subject, CompressesModels)
    for run in (recovered, unanswered):
        weights = compresses.quantized_weights(run.outcome.packed)
        plain = AutoModelForCausalLM.from_pretrained(run.outcome.dequantized, dtype=torch.float32)
        packed, tokenizer = compresses.load_packed(run.outcome.packed)
        stored = {f"{name}.weight": stored_weight(subject, weight) for name, weight in weights.items()}
        stored |= {name: value_at(packed, name) for name in preserved_parameters(plain, weights)}
        values = dict(plain.named_parameters())
        equal = sum(int((stored[name].half().float() == value).sum()) for name, value in values.items())
        assert run.metrics["dequantization_accuracy"] == equal / sum(value.numel() for value in values.values())
        trainable = compresses.load_trainable(run.outcome.packed).eval()
        faults = gradient_faults(trainable, weights, torch.tensor([tokenizer.encode(PROSE)[:32]]))
        assert run.metrics["gradient_flow_test_passed"] is (not faults), faults
