"""A subject that tracks its compressions and writes W&B's records itself; each defect is one thing told wrongly."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.mutants.reference.folders import FolderSubject
from harness.mutants.reference.perplexity import PerplexitySubject
from harness.subject import CompressionOutcome, PerplexityFigures

RECOVERY = ("post_finetune_perplexity", "perplexity_recovery", "fine_tune_epochs", "fine_tune_time_hours")


@dataclass(frozen=True)
class TrackingSubject(FolderSubject):
    """Says of recovery that it took back a perplexity of 1, which no file can contradict."""

    def compress_tracked(
        self, model_folder: Path, out: Path, overrides: Mapping[str, str], server: str | None
    ) -> tuple[CompressionOutcome, Path]:
        """See `harness.subject_ecosystem.TracksRuns`."""
        outcome = super().compress(model_folder, out, overrides)
        recovers = overrides["fine_tune_trigger"] == "0"
        metrics = self.metrics(model_folder, outcome, overrides["evaluation_text"], recovers)
        if self.defect == "one metric too few":
            metrics.pop("fine_tune_epochs", None)
        if self.defect == "zeros for what was not measured":
            metrics |= {name: 0 for name in RECOVERY if name not in metrics}
        summary = self.summary(metrics)
        if self.defect == "a summary of its own":
            summary["compression_ratio"] *= 2
        self.write(out / "run.wandb", metrics, summary)
        result: dict[str, Any] = dict(outcome.result)
        if server is not None and self.defect != "silent about the server":
            result["fallbacks"] = [*result["fallbacks"], "tracking: a local record"]
        return replace(outcome, result=result), out / "run.wandb"

    def metrics(self, folder: Path, outcome: CompressionOutcome, text: str, recovers: bool) -> dict[str, Any]:
        """Everything that is logged of a compression."""
        original = AutoModelForCausalLM.from_pretrained(folder).eval()
        plain = AutoModelForCausalLM.from_pretrained(outcome.dequantized).eval()
        before, after = (self.figures(model, folder, text) for model in (original, plain))
        start = before.token_perplexity * (1.01 if self.defect == "perplexity on another text" else 1)
        straight = after.token_perplexity + recovers
        return {
            **self.sizes(original, outcome.packed),
            "pre_perplexity": start,
            "pre_eval_loss": math.log(start),
            "post_perplexity": straight,
            "perplexity_degradation": after.token_perplexity / start - 1,
            "accuracy_preserved": after.next_token_accuracy / before.next_token_accuracy,
            "dequantization_accuracy": self.equal(plain, outcome.packed),
            "gradient_flow_test_passed": True,
            **(self.recovery(start, straight, after.token_perplexity) if recovers else {}),
        }

    def figures(self, model: Any, folder: Path, text: str) -> PerplexityFigures:
        """Quality of a model on a file of text."""
        document = Path(text).read_text(encoding="utf-8")
        return PerplexitySubject().perplexity(model, AutoTokenizer.from_pretrained(folder), [document], 512, 1)

    def sizes(self, original: Any, packed: Path) -> dict[str, Any]:
        """Sizes in megabytes, and counts."""
        weights = self.quantized_weights(packed)
        parameters = sum(parameter.numel() for parameter in original.parameters())
        size: float = sum(path.stat().st_size for path in packed.rglob("*") if path.is_file())
        if self.defect == "sizes by estimate":
            size = parameters / 4
        codes = torch.cat([weight.codes.flatten() for weight in weights.values()])
        return {
            "original_size_mb": 4 * parameters / 1e6,
            "compressed_size_mb": size / 1e6,
            "ratio": 4 * parameters / size,
            "layers_compressed": len(weights),
            "sparsity_ratio": float((codes == 0).double().mean()),
            "quantized_params": codes.numel(),
            "total_params": parameters,
            "layers_quantized": len(weights),
        }

    def equal(self, plain: Any, packed: Path) -> float:
        """The share of weights that are scale times code."""
        if self.defect == "dequantization by default":
            return 0
        stored = {f"{name}.weight": w.codes * w.scale for name, w in self.quantized_weights(packed).items()}
        values: dict[str, Any] = dict(plain.named_parameters())
        same = [stored.get(name, value).half().float() == value for name, value in values.items()]
        return float(torch.cat([each.flatten() for each in same]).double().mean())

    def recovery(self, before: float, straight: float, after: float) -> dict[str, Any]:
        """What recovery took back."""
        share = (straight - after) / (straight - before)
        return {
            "post_finetune_perplexity": after,
            "perplexity_recovery": 1.0 if self.defect == "recovery by default" else share,
            "fine_tune_epochs": 1,
            "fine_tune_time_hours": 1e-6,
        }

    def summary(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """The same of the whole phase."""
        names = ("original_size_mb", "compressed_size_mb", "accuracy_preserved", "sparsity_ratio")
        return {name: metrics[name] for name in names} | {
            "compression_ratio": metrics["ratio"],
            "final_perplexity": metrics.get("post_finetune_perplexity", metrics["post_perplexity"]),
            "success": False,
            "quantization_method": "signs",
        }

    def write(self, file: Path, metrics: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        """A file as W&B writes it."""
        from wandb.proto.wandb_internal_pb2 import Record

        history, phase, end = Record(), Record(), Record()
        for name, value in metrics.items():
            history.history.item.add(key=f"compression/{name}", value_json=json.dumps(value))
        for name, value in summary.items():
            phase.summary.update.add(nested_key=[f"phase/{name}"], value_json=json.dumps(value))
        end.exit.exit_code = 0
        records = [history, phase, *([] if self.defect == "a record that breaks off" else [end])]
        file.write_bytes(b":W&B\xe1\xbe\x00" + b"".join(chunk(record.SerializeToString()) for record in records))


def chunk(data: bytes) -> bytes:
    """One whole record of a file in LevelDB's format, none of which is longer than a block here."""
    return struct.pack("<IHB", zlib.crc32(b"\x01" + data), len(data), 1) + data
