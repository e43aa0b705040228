"""A subject that compresses whole models by definition, written for the meta-tests alone: each defect is one override.

It shares nothing with `bitnet`. Its packed folder holds 2-bit codes, one float32 scale for each output channel (the
mean over the weights that are not zeroed, so that ternary weights come back), everything else in half precision, and
the model's own configuration and tokenizer. Activations stay in floating point but for one subclass.
"""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D

from harness.subject import CompressionOutcome, CompressionReport, Declaration, QuantizedWeight
from tests.suites.perplexity_subjects import PerplexitySubject

CONTEXT_LENGTH = 128
TENSORS = "ternary.safetensors"


class CompressingSubject:
    declaration = Declaration(
        name="compressing",
        version="1",
        codecs=("int8",),
        ste="identity",
        source_root=Path(__file__).parent,
    )

    # ------------------------------------------------------------------ rules

    def is_quantized(self, name, module, model):
        blocks = [n for n, m in model.named_modules() if isinstance(m, nn.ModuleList)]
        return isinstance(module, nn.Linear | Conv1D) and any(name.startswith(f"{block}.") for block in blocks)

    def quantize(self, weight):
        codes = weight.sign() * (weight.abs() > self.threshold * weight.abs().mean(dim=1, keepdim=True))
        scale = (weight * codes).sum(dim=1, keepdim=True) / codes.abs().sum(dim=1, keepdim=True)
        return QuantizedWeight(codes.to(torch.int8), scale)

    threshold = 0.5

    def quantized_input(self, x):
        return x

    def pack(self, codes, codec):
        return codes.view(torch.uint8)

    def unpack(self, packed, codec, width):
        return packed.view(torch.int8)

    # ------------------------------------------------------------------ the plan

    def layer_plan(self, model):
        return [
            (name, self.is_quantized(name, module, model), "by definition") for name, module in self.carriers(model)
        ]

    def carriers(self, model):
        return [(n, m) for n, m in model.named_modules() if list(m.parameters(recurse=False))]

    # ------------------------------------------------------------------ compression

    def compress(self, model_folder, out, overrides):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        weights = {name: self.quantize(self.matrix(model.get_submodule(name))) for name in self.chosen(model)}
        weights = self.recover(weights, overrides)
        packed, dequantized = out / "packed", out / "fp16"
        self.save_packed(model, tokenizer, weights, packed)
        self.save_dequantized(model, tokenizer, weights, dequantized)
        report = self.report(model, tokenizer, weights, packed, overrides)
        return CompressionOutcome(packed, dequantized, {}, report)

    def chosen(self, model):
        return [name for name, quantized, _ in self.layer_plan(model) if quantized]

    def matrix(self, module):
        return matrix(module)

    def recover(self, weights, overrides):
        return weights

    def save_packed(self, model, tokenizer, weights, folder):
        folder.mkdir(parents=True)
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(self.packed_tensors(model, weights), folder / TENSORS)

    def packed_tensors(self, model, weights):
        tensors = {}
        for name, weight in weights.items():
            tensors[f"{name}.codes"], tensors[f"{name}.scale"] = self.pack_codes(weight.codes), weight.scale
        for name, value in model.named_parameters():
            if name.removesuffix(".weight") not in weights:
                tensors[name] = self.preserved(name, value)
        return tensors

    def preserved(self, name, value):
        return value.detach().half()

    def pack_codes(self, codes):
        digits = F.pad(codes + 1, (0, -codes.shape[1] % 4), value=1).to(torch.uint8).unflatten(1, (-1, 4))
        return (digits << torch.tensor([0, 2, 4, 6], dtype=torch.uint8)).sum(-1).to(torch.uint8)

    def unpack_codes(self, packed, width):
        digits = (packed[:, :, None] >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)) & 3
        return digits.flatten(1)[:, :width].to(torch.int8) - 1

    def save_dequantized(self, model, tokenizer, weights, folder):
        plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
        plain.load_state_dict(model.state_dict())
        with torch.no_grad():
            for name, weight in weights.items():
                matrix(plain.get_submodule(name)).copy_(self.dequantize(weight, matrix(model.get_submodule(name))))
        self.to_half(plain).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    def dequantize(self, weight, original):
        return weight.codes * weight.scale

    def to_half(self, plain):
        return plain.half()

    # ------------------------------------------------------------------ what it says of itself

    def report(self, model, tokenizer, weights, packed, overrides):
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

    def measure(self, model, tokenizer, text):
        return PerplexitySubject().perplexity(model, tokenizer, [text], CONTEXT_LENGTH, 1).token_perplexity

    # ------------------------------------------------------------------ reloading

    def load_packed(self, path):
        return self.load(path, self.packed_layer), AutoTokenizer.from_pretrained(path)

    def load_trainable(self, path):
        return self.load(path, self.trainable_layer)

    def packed_layer(self, weight, bias):
        return PackedLinear(self, weight, bias)

    def trainable_layer(self, weight, bias):
        return TrainableLinear(self, weight, bias)

    def load(self, path, make_layer):
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

    def missing(self, name):
        raise ValueError(f"{name} is missing")

    def read_tensors(self, path):
        return load_file(path / TENSORS)

    def quantized_weights(self, path):
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

    def gradient_failures(self, model, tokens):
        layers = {name: module.weight for name, module in model.named_modules() if isinstance(module, TrainableLinear)}
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        return [name for name, weight in layers.items() if not self.flows(weight)]

    def flows(self, weight):
        values = [weight, weight.grad]
        return all(value is not None and torch.isfinite(value).all() and value.any() for value in values)


class WithInt8Activations(CompressingSubject):
    """The same with inputs of ternary layers rounded to int8, one scale a token."""

    declaration = replace(CompressingSubject.declaration, activation_range=(-127, 127))

    def quantize_activation(self, x):
        peak = x.detach().abs().amax(dim=-1, keepdim=True)
        codes = (x.detach() * 127 / peak.clamp_min(1e-30)).round()
        return codes.to(torch.int8), peak / 127

    def quantized_input(self, x):
        codes, scale = self.quantize_activation(x)
        return codes * scale


class PackedLinear(nn.Module):
    """Runs on codes and scales."""

    def __init__(self, subject, weight, bias):
        super().__init__()
        self.subject, self.bias = subject, bias
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)

    def forward(self, x):
        return F.linear(self.subject.quantized_input(x), self.codes * self.scale, self.bias)


class TrainableLinear(nn.Module):
    """Trains a latent weight behind its codes, which start out as the stored ones, at the stored scales."""

    def __init__(self, subject, weight, bias):
        super().__init__()
        self.subject, self.bias = subject, bias
        self.register_buffer("scale", weight.scale)
        self.weight = nn.Parameter(weight.codes * weight.scale)

    def forward(self, x):
        return F.linear(self.input_through(x), self.weight_through(), self.bias)

    def weight_through(self):
        codes = (self.weight / self.scale).round().clamp(-1, 1)
        return (codes * self.scale).detach() + (self.weight - self.weight.detach())

    def input_through(self, x):
        return self.subject.quantized_input(x).detach() + (x - x.detach())


def matrix(module):
    """The weight as [out, in]."""
    weight = module.weight.detach()
    return weight.T if isinstance(module, Conv1D) else weight
