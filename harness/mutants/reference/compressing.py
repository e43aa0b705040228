"""A subject that compresses whole models by definition, written to be broken: each defect is one override.

It shares nothing with `bitnet`. Its packed folder holds 2-bit codes, one float32 scale for each output channel (the
mean over the weights that are not zeroed, so that ternary weights come back), everything else in half precision, and
the model's own configuration and tokenizer. Activations stay in floating point but for one subclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from harness.mutants.reference.perplexity import PerplexitySubject
from harness.subject import CompressionOutcome, CompressionReport, Declaration, QuantizedWeight

CONTEXT_LENGTH = 128
TENSORS = "ternary.safetensors"


class CompressingSubject:
    """Ternary projections, everything else in half precision; each step is a method that a defect can replace."""

    declaration = Declaration(
        name="compressing",
        version="1",
        codecs=("int8",),
        ste="identity",
        source_root=Path(__file__).parent,
    )

    # ------------------------------------------------------------------ rules

    def is_quantized(self, name: str, module: nn.Module, model: Any) -> bool:
        """Whether a module becomes ternary."""
        blocks = [n for n, m in model.named_modules() if isinstance(m, nn.ModuleList)]
        return isinstance(module, nn.Linear | Conv1D) and any(name.startswith(f"{block}.") for block in blocks)

    def quantize(self, weight: torch.Tensor) -> QuantizedWeight:
        """Codes and scales of a matrix [out, in]."""
        codes = weight.sign() * (weight.abs() > self.threshold * weight.abs().mean(dim=1, keepdim=True))
        scale = (weight * codes).sum(dim=1, keepdim=True) / codes.abs().sum(dim=1, keepdim=True)
        return QuantizedWeight(codes.to(torch.int8), scale)

    threshold = 0.5

    def quantized_input(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs of a ternary layer as it multiplies them."""
        return x

    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        """See `harness.subject.Packs`."""
        return codes.view(torch.uint8)

    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        """See `harness.subject.Packs`."""
        return packed.view(torch.int8)

    # ------------------------------------------------------------------ the plan

    def layer_plan(self, model: Any) -> list[tuple[str, bool, str]]:
        """See `harness.subject.CompressesModels`."""
        return [
            (name, self.is_quantized(name, module, model), "by definition") for name, module in self.carriers(model)
        ]

    def carriers(self, model: Any) -> list[tuple[str, nn.Module]]:
        """The modules with parameters of their own."""
        return [(n, m) for n, m in model.named_modules() if list(m.parameters(recurse=False))]

    # ------------------------------------------------------------------ compression

    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        """See `harness.subject.CompressesModels`."""
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        weights = {name: self.quantize(self.matrix(model.get_submodule(name))) for name in self.chosen(model)}
        weights = self.recover(weights, overrides)
        packed, dequantized = out / "packed", out / "fp16"
        self.save_packed(model, tokenizer, weights, packed)
        self.save_dequantized(model, tokenizer, weights, dequantized)
        report = self.report(model, tokenizer, weights, packed, overrides)
        return CompressionOutcome(packed, dequantized, {}, report)

    def chosen(self, model: Any) -> list[str]:
        """The names of the layers that are quantized."""
        return [name for name, quantized, _ in self.layer_plan(model) if quantized]

    def matrix(self, module: nn.Module) -> torch.Tensor:
        """The weight of a module as [out, in]."""
        return matrix(module)

    def recover(self, weights: dict[str, QuantizedWeight], overrides: Mapping[str, str]) -> dict[str, QuantizedWeight]:
        """What recovery makes of the weights: nothing."""
        return weights

    def save_packed(self, model: Any, tokenizer: Any, weights: dict[str, QuantizedWeight], folder: Path) -> None:
        """Write the packed folder."""
        folder.mkdir(parents=True)
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(self.packed_tensors(model, weights), folder / TENSORS)

    def packed_tensors(self, model: Any, weights: dict[str, QuantizedWeight]) -> dict[str, torch.Tensor]:
        """What the packed folder stores, by name."""
        tensors = {}
        for name, weight in weights.items():
            tensors[f"{name}.codes"], tensors[f"{name}.scale"] = self.pack_codes(weight.codes), weight.scale
        for name, value in model.named_parameters():
            if name.removesuffix(".weight") not in weights:
                tensors[name] = self.preserved(name, value)
        return tensors

    def preserved(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """A parameter that is not quantized, as it is stored."""
        return value.detach().half()

    def pack_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Four codes a byte."""
        digits = F.pad(codes + 1, (0, -codes.shape[1] % 4), value=1).to(torch.uint8).unflatten(1, (-1, 4))  # type: ignore[no-untyped-call]
        packed: torch.Tensor = (digits << torch.tensor([0, 2, 4, 6], dtype=torch.uint8)).sum(-1).to(torch.uint8)
        return packed

    def unpack_codes(self, packed: torch.Tensor, width: int) -> torch.Tensor:
        """The first `width` codes of each row."""
        digits = (packed[:, :, None] >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)) & 3
        return digits.flatten(1)[:, :width].to(torch.int8) - 1

    def save_dequantized(self, model: Any, tokenizer: Any, weights: dict[str, QuantizedWeight], folder: Path) -> None:
        """Write the FP16 folder."""
        plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
        plain.load_state_dict(model.state_dict())
        with torch.no_grad():
            for name, weight in weights.items():
                matrix(plain.get_submodule(name)).copy_(self.dequantize(weight, matrix(model.get_submodule(name))))
        self.to_half(plain).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    def dequantize(self, weight: QuantizedWeight, original: torch.Tensor) -> torch.Tensor:
        """See `harness.subject.QuantizesWeights`."""
        return weight.codes * weight.scale

    def to_half(self, plain: Any) -> Any:
        """The model as the FP16 folder stores it."""
        return plain.half()

    # ------------------------------------------------------------------ what it says of itself

    def report(
        self,
        model: Any,
        tokenizer: Any,
        weights: dict[str, QuantizedWeight],
        packed: Path,
        overrides: Mapping[str, str],
    ) -> CompressionReport:
        """What is said of the compression."""
        text = Path(overrides["evaluation_text"]).read_text(encoding="utf-8")
        parameters = sum(parameter.numel() for parameter in model.parameters())
        size = sum(path.stat().st_size for path in packed.rglob("*") if path.is_file())
        codes = torch.cat([weight.codes.flatten() for weight in weights.values()])
        return CompressionReport(
            parameters=parameters,
            packed_bytes=size,
            compression_ratio=4 * parameters / size,
            zero_fraction=float((codes == 0).double().mean()),
            quantized_layers=tuple(weights),
            context_length=CONTEXT_LENGTH,
            perplexity_before=self.measure(model, tokenizer, text),
            perplexity_after=self.measure(self.load_packed(packed)[0], tokenizer, text),
            gradient_failures=(),
        )

    def measure(self, model: Any, tokenizer: Any, text: str) -> float:
        """Token perplexity of a text."""
        return PerplexitySubject().perplexity(model, tokenizer, [text], CONTEXT_LENGTH, 1).token_perplexity

    # ------------------------------------------------------------------ reloading

    def load_packed(self, path: Path) -> tuple[Any, Any]:
        """See `harness.subject.CompressesModels`."""
        return self.load(path, self.packed_layer), AutoTokenizer.from_pretrained(path)

    def load_trainable(self, path: Path) -> Any:
        """See `harness.subject.CompressesModels`."""
        return self.load(path, self.trainable_layer)

    def packed_layer(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> nn.Module:
        """A layer that runs on stored weights."""
        return PackedLinear(self, weight, bias)

    def trainable_layer(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> nn.Module:
        """A layer that trains from stored weights."""
        return TrainableLinear(self, weight, bias)

    def load(self, path: Path, make_layer: Any) -> Any:
        """The model of a packed folder, each ternary layer made by `make_layer`."""
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=torch.float32).eval()
        tensors = self.read_tensors(path)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in tensors:
                    value.copy_(tensors[name])
                elif f"{name.removesuffix('.weight')}.codes" not in tensors:
                    self.missing(name)
        for name, weight in self.quantized_weights(path).items():
            bias = model.get_submodule(name).bias
            model.set_submodule(name, make_layer(weight, bias))
        return model

    def missing(self, name: str) -> None:
        """Refuse a folder that lacks a parameter."""
        raise ValueError(f"{name} is missing")

    def read_tensors(self, path: Path) -> dict[str, torch.Tensor]:
        """What a packed folder stores."""
        return load_file(path / TENSORS)

    def quantized_weights(self, path: Path) -> dict[str, QuantizedWeight]:
        """See `harness.subject.CompressesModels`."""
        tensors = self.read_tensors(path)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))
        return {
            name: QuantizedWeight(
                self.unpack_codes(tensors[f"{name}.codes"], matrix(module).shape[1]), tensors[f"{name}.scale"]
            )
            for name, module in model.named_modules()
            if f"{name}.codes" in tensors
        }

    # ------------------------------------------------------------------ its own test

    def gradient_failures(self, model: Any, tokens: torch.Tensor) -> list[str]:
        """See `harness.subject.ChecksGradientFlow`."""
        layers = {name: module.weight for name, module in model.named_modules() if isinstance(module, TrainableLinear)}
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        return [name for name, weight in layers.items() if not self.flows(weight)]

    def flows(self, weight: torch.Tensor) -> bool:
        """Whether a weight and its gradient are finite and not all zero."""
        values = [weight, weight.grad]
        return all(value is not None and torch.isfinite(value).all() and value.any() for value in values)


class WithInt8Activations(CompressingSubject):
    """The same with inputs of ternary layers rounded to int8, one scale a token."""

    declaration = replace(CompressingSubject.declaration, activation_range=(-127, 127))

    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `harness.subject.QuantizesActivations`."""
        peak = x.detach().abs().amax(dim=-1, keepdim=True)
        codes = (x.detach() * 127 / peak.clamp_min(1e-30)).round()
        return codes.to(torch.int8), peak / 127

    @override
    def quantized_input(self, x: torch.Tensor) -> torch.Tensor:
        codes, scale = self.quantize_activation(x)
        return codes * scale


class PackedLinear(nn.Module):
    """Runs on codes and scales."""

    subject: CompressingSubject
    codes: torch.Tensor
    scale: torch.Tensor

    def __init__(self, subject: CompressingSubject, weight: QuantizedWeight, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.subject, self.bias = subject, bias
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.subject.quantized_input(x), self.codes * self.scale, self.bias)


class TrainableLinear(nn.Module):
    """Trains a latent weight behind its codes, which start out as the stored ones, at the stored scales."""

    subject: CompressingSubject
    scale: torch.Tensor

    def __init__(self, subject: CompressingSubject, weight: QuantizedWeight, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.subject, self.bias = subject, bias
        self.register_buffer("scale", weight.scale)
        self.weight = nn.Parameter(weight.codes * weight.scale)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.input_through(x), self.weight_through(), self.bias)

    def weight_through(self) -> torch.Tensor:
        """The weight as it multiplies, with its gradient."""
        codes = (self.weight / self.scale).round().clamp(-1, 1)
        return (codes * self.scale).detach() + (self.weight - self.weight.detach())

    def input_through(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs as they are multiplied, with their gradient."""
        return self.subject.quantized_input(x).detach() + (x - x.detach())


def matrix(module: nn.Module) -> torch.Tensor:
    """The weight as [out, in]."""
    weight = module.get_parameter("weight").detach()
    return weight.T if isinstance(module, Conv1D) else weight
