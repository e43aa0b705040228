"""Subjects that compress a folder into folders and say all that a pipeline must; each has at most one defect."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.subject import CompressionOutcome, Declaration, QuantizedWeight

REQUIRED = {"model_path", "tokenizer_sha256", "vocabulary_size", "strategy_accuracies", "anti_theater", "metrics"}
SAMPLE_CHARACTERS = 128
DEFAULT_CONTEXT = 512


@dataclass(frozen=True)
class FolderSubject:
    """Quantizes every projection to signs and row means; runs on the plain model that they stand for."""

    defect: str = ""
    manifest_files = ("comes_in.json", "goes_out.json")

    @property
    def declaration(self) -> Declaration:
        """What the suites hold it to."""
        return Declaration(name=f"folders {self.defect or 'as they should be'}", version="1")

    # ------------------------------------------------------------------ compression

    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        """See `harness.subject.CompressesModels`."""
        phase3 = {} if self.defect == "manifest not looked at" else self.check_phase3(model_folder)
        packed: dict[str, torch.Tensor] = {}
        plain: dict[str, torch.Tensor] = {}
        for name, tensor in load_file(model_folder / "model.safetensors").items():
            layer = name.removesuffix(".weight")
            if layer.endswith("_proj"):
                scale = tensor.abs().mean(dim=1, keepdim=True)
                codes = tensor.sign() * (tensor.abs() > scale / 2)
                packed |= {f"{layer}.codes": codes.to(torch.int8), f"{layer}.scale": scale}
                tensor = (codes * scale).half().float()
            plain[name] = tensor.clone()
        for form, tensors in (("packed", packed), ("plain", plain)):
            shutil.copytree(model_folder, out / form)
            save_file(tensors, out / form / "model.safetensors", {"format": "pt"})
        save_file(plain, out / "packed" / "rest.safetensors", {"format": "pt"})
        gates = [
            {"name": "ratio", "measured": 3.5, "comparison": ">=", "limit": 3.5, "passed": True},
            {"name": "drop", "measured": None, "comparison": "<=", "limit": 0.1, "passed": False},
        ]
        result: dict[str, Any] = {
            "fallbacks": self.fallbacks(model_folder, overrides),
            "gates": gates,
            "success": False,
        }
        (out / "result.json").write_text(json.dumps(result))
        command = f"compress {model_folder}"
        (out / "goes_out.json").write_text(json.dumps(self.statement(out) | {"command": command, "phase3": phase3}))
        return CompressionOutcome(out / "packed", out / "plain", result)

    def fallbacks(self, model_folder: Path, overrides: Mapping[str, str]) -> list[str]:
        """What could not be had as asked; this subject's perplexity always rises by the whole."""
        positions = json.loads((model_folder / "config.json").read_text())["max_position_embeddings"]
        text = Path(overrides["calibration_text"]).read_text() if "calibration_text" in overrides else 50_000 * "text"
        held, asked = len(text) // SAMPLE_CHARACTERS, int(overrides.get("calibration_samples", 8))
        trigger, steps = float(overrides.get("fine_tune_trigger", 0.05)), overrides.get("fine_tune_steps", "100")
        happened = {
            "calibration_text": "calibration_text" not in overrides,
            "evaluation_text": "evaluation_text" not in overrides,
            "calibration_samples": held < asked,
            "context_length": positions < DEFAULT_CONTEXT,
            "recovery": trigger < 1 and steps == "0",
        }
        words = {"calibration_samples": f"{held} of {asked}", "context_length": f"{positions} tokens"}
        if self.defect == "fallbacks without figures":
            words = {}
        everything = self.defect == "every fallback named always"
        return [
            f"{name}: {words.get(name, 'something else')}"
            for name, true in happened.items()
            if (true or everything) and self.defect != f"silent about {name}"
        ]

    def quantized_weights(self, path: Path) -> dict[str, QuantizedWeight]:
        """See `harness.subject.CompressesModels`."""
        tensors = load_file(path / "model.safetensors")
        layers = [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]
        return {name: QuantizedWeight(tensors[f"{name}.codes"], tensors[f"{name}.scale"]) for name in layers}

    def load_packed(self, path: Path) -> tuple[Any, Any]:
        """See `harness.subject.CompressesModels`."""
        return AutoModelForCausalLM.from_pretrained(path.parent / "plain").eval(), AutoTokenizer.from_pretrained(path)

    def load_trainable(self, path: Path) -> Any:
        """See `harness.subject.CompressesModels`."""
        return AutoModelForCausalLM.from_pretrained(path.parent / "plain").eval()

    def layer_plan(self, model: Any) -> list[tuple[str, bool, str]]:
        """See `harness.subject.CompressesModels`."""
        return [(name, name.endswith("_proj"), "by its name") for name, _ in model.named_modules()]

    # ------------------------------------------------------------------ training

    def fine_tune(self, packed: Path, samples: torch.Tensor, steps: int, warmup_steps: int, lr: float) -> Any:
        """See `harness.subject.FineTunes`."""
        model = self.load_trainable(packed)
        projections = [parameter for name, parameter in model.named_parameters() if "_proj" in name]
        others = [parameter for name, parameter in model.named_parameters() if "_proj" not in name]
        sign = -1 if self.defect == "training uphill" else 1
        optimizer = torch.optim.Adam([{"params": projections}, {"params": others}], lr=lr)
        for step in range(1, steps + 1):
            groups = (
                optimizer.param_groups[:1] if self.defect == "warm-up of some parameters" else optimizer.param_groups
            )
            for group in groups:
                group["lr"] = lr * self.rate(step, warmup_steps)
            optimizer.zero_grad()
            logits = model(input_ids=samples).logits[:, :-1]
            (sign * cross_entropy(logits.flatten(0, 1), samples[:, 1:].flatten())).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return model

    def rate(self, step: int, warmup_steps: int) -> float:
        """The learning rate, as a fraction of the full one."""
        rates = {
            "warm-up that nothing reads": 1.0,
            "warm-up too long": min(1.0, step / (2 * warmup_steps - 1)),
            "warm-up that never ends": step / warmup_steps,
            "training without an effect": 0.0,
        }
        return rates.get(self.defect, min(1.0, step / warmup_steps))

    # ------------------------------------------------------------------ handoffs

    def check_phase3(self, folder: Path) -> dict[str, Any]:
        """See `harness.subject.HandsOver`."""
        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
        digest = hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()
        told = {"model_path": str(folder), "tokenizer_sha256": digest, "vocabulary_size": len(vocabulary)}
        path = folder / "comes_in.json"
        if not path.is_file():
            empty: dict[str, Any] = {
                "thinking_tokens": None,
                "strategy_accuracies": {},
                "anti_theater": {},
                "metrics": {},
            }
            return told | empty | {"thinking_tokens": None, "synthesised": self.defect != "made-up manifest not marked"}
        manifest = self.read(path)
        self.check_fields(manifest, told, vocabulary)
        if self.defect == "manifest not taken over":
            manifest["metrics"] = {}
        return {"thinking_tokens": None, "synthesised": False} | manifest

    def read(self, path: Path) -> dict[str, Any]:
        """A manifest, which must be a JSON object."""
        try:
            manifest = json.loads(path.read_text())
            assert isinstance(manifest, dict)
        except (OSError, ValueError, AssertionError):
            if self.defect == "unreadable manifests pass for missing ones" and path.is_file():
                return {"tokenizer_sha256": ""}
            name = "a file" if self.defect == "manifests not named" else path.name
            raise ValueError(f"{name} cannot be read") from None
        return manifest

    def check_fields(self, manifest: dict[str, Any], told: dict[str, Any], vocabulary: dict[str, int]) -> None:
        """Raise for a field of the manifest that is wrong, naming it."""

        def fraction(value: Any) -> bool:
            return isinstance(value, (int, float)) and 0 <= value <= 1

        def mapping(value: Any, right: Any) -> bool:
            """Whether all values of a mapping are right."""
            return isinstance(value, dict) and all(map(right, value.values()))

        def thinking(value: Any) -> bool:
            """Whether thinking tokens are right, where they are declared."""
            return value is None or (isinstance(value, list) and len(value) >= 8 and set(value) <= vocabulary.keys())

        rules: dict[str, Callable[[Any], bool]] = {
            "model_path": lambda value: isinstance(value, str),
            "tokenizer_sha256": lambda value: value == told["tokenizer_sha256"],
            "vocabulary_size": lambda value: value == told["vocabulary_size"],
            "thinking_tokens": thinking,
            "strategy_accuracies": lambda value: mapping(value, fraction),
            "anti_theater": lambda value: mapping(value, lambda each: isinstance(each, bool)),
            "metrics": lambda value: mapping(value, lambda each: isinstance(each, float) and math.isfinite(each)),
        }
        if self.defect == "unreadable manifests pass for missing ones" and manifest.get("tokenizer_sha256") == "":
            return
        for name in REQUIRED - manifest.keys() if self.defect != "missing fields accepted" else ():
            raise ValueError(f"{name} is missing")
        if self.defect == "thinking tokens required" and "thinking_tokens" not in manifest:
            raise ValueError("thinking_tokens is missing")
        for name, value in manifest.items():
            if not rules.get(name, lambda _: False)(value) and self.defect != f"{name} not validated":
                raise ValueError(f"{name} is wrong")

    def statement(self, out: Path) -> dict[str, Any]:
        """What the files of an output say, read anew."""
        weights = self.quantized_weights(out / "packed")
        packed_bytes = sum(path.stat().st_size for path in (out / "packed").rglob("*") if path.is_file())
        files = {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*"))
            if path.is_file() and path.name != "goes_out.json" and not self.forgotten(path)
        }
        quantized = sum(weight.codes.numel() for weight in weights.values())
        zeros = sum(int((weight.codes == 0).sum()) for weight in weights.values())
        result = json.loads((out / "result.json").read_text())
        if self.defect == "success with a gate missed":
            result["success"] = True
        if self.defect == "gates that do not follow":
            result["gates"][1]["passed"] = True
        return {
            "run_id": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:8],
            "files": files,
            "rule": "signs",
            "scales": f"packed/{'rest' if self.defect == 'scales elsewhere' else 'model'}.safetensors: <layer>.scale",
            "metrics": {
                "compression/original_size_mb": 1.0,
                "compression/compressed_size_mb": packed_bytes / 1e6,
                "compression/ratio": 1e6 / packed_bytes,
                "compression/sparsity_ratio": 0.0 if self.defect == "metrics by default" else zeros / quantized,
                "compression/quantized_params": quantized,
                "compression/layers_quantized": len(weights),
            },
            "gates": result["gates"],
            "success": result["success"],
        }

    def forgotten(self, path: Path) -> bool:
        """Whether a file is left out of the list."""
        return self.defect == "a file not listed" and path.name == "tokenizer.json"

    def check_phase5(self, out: Path) -> dict[str, Any]:
        """See `harness.subject.HandsOver`."""
        manifest = self.read(out / "goes_out.json")
        kinds = {"files": dict, "metrics": dict, "gates": list, "success": bool, "phase3": dict}
        for name in ("run_id", "files", "rule", "scales", "metrics", "gates", "success", "command", "phase3"):
            if self.defect != "corrupt output accepted" and not isinstance(manifest.get(name), kinds.get(name, str)):
                raise ValueError(f"{name} is missing or wrong")
        for name, digest in dict(manifest.get("files") or {}).items() if manifest.get("files") != 3.5 else ():
            path = out / name
            if not path.is_file():
                if self.defect == "missing files accepted":
                    return manifest
                raise ValueError(f"{name} is missing")
            if self.defect != "digests not compared" and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} has changed")
        if self.defect not in ("false statements accepted", "corrupt output accepted", "digests not compared"):
            for name, true in self.statement(out).items():
                if manifest[name] != true:
                    raise ValueError(f"{name} is not true of {out}")
        return manifest
