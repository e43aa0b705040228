"""Subjects with one defect each in which layers they quantize, and in the two artefacts that they write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typing_extensions import override

from harness.mutants.reference.compressing import CompressingSubject
from harness.subject import QuantizedWeight

# --------------------------------------------------------------------------- the plan


class Conv1DForgotten(CompressingSubject):
    """Quantizes nn.Linear alone, so that of GPT-2 nothing is quantized."""

    @override
    def is_quantized(self, name: str, module: nn.Module, model: Any) -> bool:
        return isinstance(module, nn.Linear) and super().is_quantized(name, module, model)


class NormTakenForAttention(CompressingSubject):
    """Takes every module with "attention" in its name for a projection, post_attention_layernorm included."""

    @override
    def is_quantized(self, name: str, module: nn.Module, model: Any) -> bool:
        return super().is_quantized(name, module, model) or "attention" in name


class EveryLinearLayer(CompressingSubject):
    """The head, too, and what stands outside the blocks."""

    @override
    def is_quantized(self, name: str, module: nn.Module, model: Any) -> bool:
        return super().is_quantized(name, module, model) or isinstance(module, nn.Linear)


class LastProjectionLeftOut(CompressingSubject):
    """The last projection of the second block keeps its precision."""

    @override
    def is_quantized(self, name: str, module: nn.Module, model: Any) -> bool:
        return super().is_quantized(name, module, model) and not name.endswith("1.mlp.down_proj")


class EmbeddingNotListed(CompressingSubject):
    """The plan does not name the embedding."""

    @override
    def carriers(self, model: Any) -> list[tuple[str, nn.Module]]:
        return [(name, module) for name, module in super().carriers(model) if not isinstance(module, nn.Embedding)]


class PlanNotFollowed(CompressingSubject):
    """One layer less is quantized than the plan says."""

    @override
    def chosen(self, model: Any) -> list[str]:
        return super().chosen(model)[:-1]


class NormQuantized(CompressingSubject):
    """Norms are rounded to one magnitude."""

    @override
    def preserved(self, name: str, value: torch.Tensor) -> torch.Tensor:
        if value.ndim > 1:
            return super().preserved(name, value)
        return (value.sign() * value.abs().mean()).detach().half()


class TransposeForgotten(CompressingSubject):
    """Takes the weight of a Conv1D as it is, which is [in, out]; the square ones fit."""

    @override
    def matrix(self, module: nn.Module) -> torch.Tensor:
        right, wrong = super().matrix(module), module.get_parameter("weight").detach()
        return wrong if wrong.shape == right.shape else right


# --------------------------------------------------------------------------- two artefacts


class LatentWeightsInTheFP16Output(CompressingSubject):
    """The FP16 output holds the weights from before quantization."""

    @override
    def dequantize(self, weight: QuantizedWeight, original: torch.Tensor) -> torch.Tensor:
        return original


class FP16FolderInFloat32(CompressingSubject):
    """The FP16 output is stored in float32."""

    @override
    def to_half(self, plain: Any) -> Any:
        return plain.half().float()


class MissingKeysHidden(CompressingSubject):
    """A norm is not stored, and what is not found keeps the value that it starts out with."""

    @override
    def packed_tensors(self, model: Any, weights: dict[str, QuantizedWeight]) -> dict[str, torch.Tensor]:
        return {name: value for name, value in super().packed_tensors(model, weights).items() if name != NORM}

    @override
    def missing(self, name: str) -> None:
        pass


NORM = "model.norm.weight"


class NeitherStandsAlone(CompressingSubject):
    """The packed folder leaves its embedding to the FP16 folder beside it, which lacks its head."""

    @override
    def packed_tensors(self, model: Any, weights: dict[str, QuantizedWeight]) -> dict[str, torch.Tensor]:
        return {name: value for name, value in super().packed_tensors(model, weights).items() if "embed" not in name}

    @override
    def read_tensors(self, path: Path) -> dict[str, torch.Tensor]:
        plain = load_file(path.parent / "fp16" / "model.safetensors")
        return super().read_tensors(path) | {name: value for name, value in plain.items() if "embed" in name}

    @override
    def save_dequantized(self, model: Any, tokenizer: Any, weights: dict[str, QuantizedWeight], folder: Path) -> None:
        super().save_dequantized(model, tokenizer, weights, folder)
        tensors = load_file(folder / "model.safetensors")
        del tensors["lm_head.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
