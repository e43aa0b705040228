"""Subjects that compress models with one defect each: what real implementations got wrong, or easily could."""

import time
from dataclasses import replace

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.suites.compressing_subject import TENSORS, CompressingSubject, TrainableLinear

# --------------------------------------------------------------------------- bytes


class CodesStoredAsFloat32(CompressingSubject):
    def pack_codes(self, codes):
        return codes.float()

    def unpack_codes(self, packed, width):
        return packed.to(torch.int8)


class Int8StoredAsInt16(CompressingSubject):
    def pack(self, codes, codec):
        return codes.to(torch.int16).view(torch.uint8)

    def unpack(self, packed, codec, width):
        return packed.view(torch.int16).to(torch.int8)


class Int8LosesTheSign(CompressingSubject):
    def unpack(self, packed, codec, width):
        return packed.view(torch.int8).abs()


class Timestamp(CompressingSubject):
    def save_packed(self, model, tokenizer, weights, folder):
        super().save_packed(model, tokenizer, weights, folder)
        (folder / "made.txt").write_text(str(time.time_ns()), encoding="utf-8")


class SeedIgnored(CompressingSubject):
    """Whatever random numbers come next decide one scale."""

    def recover(self, weights, overrides):
        for weight in weights.values():
            weight.scale[0] *= 1 + 0.01 * torch.rand(())
        return weights


# --------------------------------------------------------------------------- codes


class ScaledValuesCastToInt8(CompressingSubject):
    """All zeros, which are a subset of {-1, 0, 1}."""

    def quantize(self, weight):
        quantized = super().quantize(weight)
        return replace(quantized, codes=(quantized.codes * quantized.scale * 0.1).to(torch.int8))


class NegativeCodesLost(CompressingSubject):
    def quantize(self, weight):
        quantized = super().quantize(weight)
        return replace(quantized, codes=quantized.codes.clamp_min(0))


class NaNScale(CompressingSubject):
    def quantize(self, weight):
        quantized = super().quantize(weight)
        quantized.scale[0] = float("nan")
        return quantized


class MostWeightsZero(CompressingSubject):
    threshold = 1.5


class HardlyAnyZeros(CompressingSubject):
    threshold = 0.05


class RunsOnRoundedScales(CompressingSubject):
    """The layer shows the stored scales and computes with others."""

    def packed_layer(self, weight, bias):
        return super().packed_layer(replace(weight, scale=weight.scale.bfloat16().float()), bias)


# --------------------------------------------------------------------------- the report


class RatioOfTheWeightsAlone(CompressingSubject):
    def report(self, model, tokenizer, weights, packed, overrides):
        return replace(super().report(model, tokenizer, weights, packed, overrides), compression_ratio=16.0)


class SizeWithoutTheTokenizer(CompressingSubject):
    def report(self, model, tokenizer, weights, packed, overrides):
        size = (packed / TENSORS).stat().st_size
        return replace(super().report(model, tokenizer, weights, packed, overrides), packed_bytes=size)


class ThresholdReportedAsZeroFraction(CompressingSubject):
    def report(self, model, tokenizer, weights, packed, overrides):
        return replace(super().report(model, tokenizer, weights, packed, overrides), zero_fraction=self.threshold)


class LossReportedAsPerplexity(CompressingSubject):
    def report(self, model, tokenizer, weights, packed, overrides):
        made = super().report(model, tokenizer, weights, packed, overrides)
        return replace(made, perplexity_before=float(torch.tensor(made.perplexity_before).log()))


class PerplexityAfterMeasuredBefore(CompressingSubject):
    def report(self, model, tokenizer, weights, packed, overrides):
        made = super().report(model, tokenizer, weights, packed, overrides)
        return replace(made, perplexity_after=made.perplexity_before)


class PerplexityNotANumber(CompressingSubject):
    def report(self, model, tokenizer, weights, packed, overrides):
        made = super().report(model, tokenizer, weights, packed, overrides)
        return replace(made, perplexity_before=float("nan"), perplexity_after=float("nan"))


# --------------------------------------------------------------------------- the plan


class Conv1DForgotten(CompressingSubject):
    def is_quantized(self, name, module, model):
        return isinstance(module, nn.Linear) and super().is_quantized(name, module, model)


class NormTakenForAttention(CompressingSubject):
    def is_quantized(self, name, module, model):
        return super().is_quantized(name, module, model) or "attention" in name


class EveryLinearLayer(CompressingSubject):
    """The head, too, and what stands outside the blocks."""

    def is_quantized(self, name, module, model):
        return super().is_quantized(name, module, model) or isinstance(module, nn.Linear)


class LastProjectionLeftOut(CompressingSubject):
    def is_quantized(self, name, module, model):
        return super().is_quantized(name, module, model) and not name.endswith("1.mlp.down_proj")


class EmbeddingNotListed(CompressingSubject):
    def carriers(self, model):
        return [(name, module) for name, module in super().carriers(model) if not isinstance(module, nn.Embedding)]


class PlanNotFollowed(CompressingSubject):
    def chosen(self, model):
        return super().chosen(model)[:-1]


class NormQuantized(CompressingSubject):
    def preserved(self, name, value):
        if value.ndim > 1:
            return super().preserved(name, value)
        return (value.sign() * value.abs().mean()).detach().half()


class TransposeForgotten(CompressingSubject):
    """Takes the weight of a Conv1D as it is, which is [in, out]; the square ones fit."""

    def matrix(self, module):
        right, wrong = super().matrix(module), module.weight.detach()
        return wrong if wrong.shape == right.shape else right


# --------------------------------------------------------------------------- two artefacts


class LatentWeightsInTheFP16Output(CompressingSubject):
    def dequantize(self, weight, original):
        return original


class FP16FolderInFloat32(CompressingSubject):
    def to_half(self, plain):
        return plain.half().float()


class MissingKeysHidden(CompressingSubject):
    """A norm is not stored, and what is not found keeps the value that it starts out with."""

    def packed_tensors(self, model, weights):
        return {name: value for name, value in super().packed_tensors(model, weights).items() if name != NORM}

    def missing(self, name):
        pass


NORM = "model.norm.weight"


class NeitherStandsAlone(CompressingSubject):
    """The packed folder leaves its embedding to the FP16 folder beside it, which lacks its head."""

    def packed_tensors(self, model, weights):
        return {name: value for name, value in super().packed_tensors(model, weights).items() if "embed" not in name}

    def read_tensors(self, path):
        plain = load_file(path.parent / "fp16" / "model.safetensors")
        return super().read_tensors(path) | {name: value for name, value in plain.items() if "embed" in name}

    def save_dequantized(self, model, tokenizer, weights, folder):
        super().save_dequantized(model, tokenizer, weights, folder)
        tensors = load_file(folder / "model.safetensors")
        del tensors["lm_head.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# --------------------------------------------------------------------------- gradients


class DetachedLayer(CompressingSubject):
    def load_trainable(self, path):
        model = super().load_trainable(path)
        layer = model.get_submodule("model.layers.1.self_attn.q_proj")
        layer.register_forward_hook(lambda module, arguments, output: output.detach())
        return model


class InputGradientLost(CompressingSubject):
    def trainable_layer(self, weight, bias):
        class Layer(TrainableLinear):
            def input_through(self, x):
                return self.subject.quantized_input(x).detach()

        return Layer(self, weight, bias)


class GradientTimesScale(CompressingSubject):
    def trainable_layer(self, weight, bias):
        class Layer(TrainableLinear):
            def weight_through(self):
                return super().weight_through().detach() + (self.weight - self.weight.detach()) * self.scale

        return Layer(self, weight, bias)


class StoredWeightComesBack(CompressingSubject):
    """Each forward pass overwrites the latent weight: what training does to it is undone."""

    def trainable_layer(self, weight, bias):
        class Layer(TrainableLinear):
            def forward(self, x):
                with torch.no_grad():
                    self.weight.copy_(weight.codes * weight.scale)
                return super().forward(x)

        return Layer(self, weight, bias)


class OwnTestIsAPlaceholder(CompressingSubject):
    def gradient_failures(self, model, tokens):
        return []


class OwnTestNeverPasses(CompressingSubject):
    def flows(self, weight):
        return False


# --------------------------------------------------------------------------- recovery


class RecoveryDiverges(CompressingSubject):
    def preserved(self, name, value):
        return super().preserved(name, value * 100 if name == NORM else value)
