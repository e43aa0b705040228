"""Subjects that do less than the reference, such as clamping their scales; with or without saying so."""

from dataclasses import replace

import torch

from harness.mutants.reference.quantizing import ReferenceSubject
from harness.subject import QuantizedWeight

EPSILON = 1e-2
RULE = replace(ReferenceSubject.declaration.variants[1], tie_rule="half_even")
SILENT = replace(ReferenceSubject.declaration, variants=(RULE,), codecs=("2bit",))
SAID = replace(
    SILENT,
    variants=(replace(RULE, scale_range=(EPSILON, 2.0**64)),),
    activation_range=(-128, 127),
    activation_top=128,
    activation_floor=EPSILON,
    half_precision="rounded",
    rejects=(),
)


class Clamping(ReferenceSubject):
    """As the reference code of the paper does it: in the input's format, clamped from below, raising on nothing."""

    declaration = SAID

    def quantize_weight(self, weight, variant, second_moment=None):
        scale = weight.float().abs().mean().clamp(min=EPSILON)
        codes = self.codes(weight.float() / scale)
        return QuantizedWeight(
            codes, scale.to(min(weight.dtype, torch.float32, key=lambda t: t.itemsize)).reshape(1, 1)
        )

    def codes(self, values):
        return torch.where(values.isnan(), 0, values.round().clamp(-1, 1)).to(torch.int8)

    def quantize_activation(self, x):
        scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=EPSILON).float() / 128
        codes = (x.float() / scale).round().clamp(-128, 127)
        return torch.where(codes.isnan(), 0, codes).to(torch.int8), scale

    def pack(self, codes, codec):
        return super().pack(codes.clamp(-1, 1), codec)


class SilentlyClamping(Clamping):
    """The same without a word about it."""

    declaration = SILENT


class NanBecomesZero(Clamping):
    """Promises nothing about NaN, and hides it."""

    def quantize_weight(self, weight, variant, second_moment=None):
        return super().quantize_weight(weight.nan_to_num(0.0, 0.0, 0.0), variant)


class HalfScales(Clamping):
    """Scales in float16, declared."""

    declaration = replace(SAID, variants=(replace(RULE, scale_range=(EPSILON, 6e4), scale_format="float16"),))

    def quantize_weight(self, weight, variant, second_moment=None):
        quantized = super().quantize_weight(weight, variant)
        return replace(quantized, scale=quantized.scale.half())


class OwnRule(Clamping):
    """A rule that no reference knows: every second weight is dropped first."""

    declaration = replace(SAID, variants=(replace(RULE, rule="every-second", scale_range=(EPSILON, 2.0**64)),))
