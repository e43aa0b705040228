"""A second implementation, written for the meta-tests alone: it passes every check, and each defect is one override.

It shares nothing with `bitnet`. Its three variants cover the rules, the granularities, two tie rules and both scale
rules; small groups keep the checks cheap.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from torch import nn

from harness.subject import Declaration, QuantizedWeight, WeightVariant

THRESHOLD = WeightVariant("threshold", "channel", None, 0.1, "strictly_greater", "absmean", second_moment=False)
ABSMEAN = WeightVariant("absmean", "tensor", None, None, "half_up", "absmean", second_moment=False)
OPTIMAL = WeightVariant("optimal", "group", 16, 0.05, "strictly_greater", "least_squares", second_moment=True)

PLACES = {"2bit": [1, 4, 16, 64], "base3": [1, 3, 9, 27, 81]}
LIMITS = {
    "quantization_bits": lambda v: v == 1.58,
    "sparsity_threshold": lambda v: v is None or 0 <= v <= 1,
    "compression_target": lambda v: v is None or v >= 1,
    "fine_tune_lr": lambda v: v > 0,
    "grokfast_lambda": lambda v: v >= 0,
    "grokfast_alpha": lambda v: 0 <= v < 1,
    "max_accuracy_drop": lambda v: 0 <= v <= 1,
    "fine_tune_trigger": lambda v: v >= 0,
    "calibration_samples": lambda v: isinstance(v, int) and v >= 1,
}


def grouped(weight: np.ndarray, variant: WeightVariant) -> tuple[np.ndarray, np.ndarray]:
    """The weights as one scale group a row, padded with NaN, and the row and column that each entry came from."""
    out, width = weight.shape
    places = np.arange(out * width).reshape(out, width)
    if variant.granularity == "tensor":
        places = places.reshape(1, -1)
    elif variant.granularity == "group":
        size = variant.group_size
        padded = np.full((out, -(-width // size) * size), -1)
        padded[:, :width] = places
        places = padded.reshape(-1, size)
    return np.where(places < 0, np.nan, weight.reshape(-1)[places]), places


class ReferenceSubject:
    """Everything by definition, in float64 numpy."""

    declaration = Declaration(
        name="reference",
        version="1",
        variants=(THRESHOLD, ABSMEAN, OPTIMAL),
        codecs=("int8", "2bit", "base3"),
        ste="identity",
        activation_range=(-127, 127),
    )

    # ------------------------------------------------------------------ weights

    def quantize_weight(self, weight, variant, second_moment=None):
        self.check_weight(weight)
        values, places = grouped(weight.detach().double().numpy(), variant)
        moments = self.spread_moments(second_moment, weight, places)
        mean = np.nanmean(np.abs(values), axis=1, keepdims=True)
        codes, scale = getattr(self, variant.rule)(values, mean, variant, moments)
        flat = np.zeros(weight.numel(), dtype=np.int8)
        flat[places[places >= 0]] = codes[places >= 0]
        rows = 1 if variant.granularity == "tensor" else weight.shape[0]
        grid = torch.from_numpy(self.store_scale(scale).astype(np.float32).reshape(rows, -1))
        return QuantizedWeight(torch.from_numpy(flat.reshape(weight.shape)), grid)

    def check_weight(self, weight):
        if weight.ndim != 2 or weight.numel() == 0:
            raise ValueError("not a matrix")
        if not torch.isfinite(weight).all():
            raise ValueError("not finite")

    def spread_moments(self, second_moment, weight, places):
        if second_moment is None:
            return np.ones(places.shape)
        if second_moment.shape != weight.shape[1:] or not bool((second_moment >= 0).all()):
            raise ValueError("impossible second moments")
        moments = second_moment.double().numpy()[places % weight.shape[1]]
        return np.where(moments.any(axis=1, keepdims=True), moments, 1.0)

    def store_scale(self, scale):
        return np.where(scale > 0, np.maximum(scale, 2.0**-149), 0.0)

    def threshold(self, values, mean, variant, moments):
        return np.sign(values) * (np.abs(values) > variant.tau * mean), mean

    def absmean(self, values, mean, variant, moments):
        safe = np.where(mean > 0, mean, 1)
        return np.clip(np.floor(values / safe + 0.5), -1, 1), mean

    def optimal(self, values, mean, variant, moments):
        codes, scale = np.zeros(values.shape), np.zeros((len(values), 1))
        lengths = (~np.isnan(values)).sum(axis=1)
        for length in set(lengths.tolist()):  # the groups of one length at a time: whole ones, ragged tails
            rows = lengths == length
            magnitude = np.abs(values[rows, :length])
            threshold, scale[rows] = self.search(magnitude, moments[rows, :length], self.floor(mean[rows], variant))
            codes[rows, :length] = np.sign(values[rows, :length]) * (magnitude >= threshold)
        return codes, scale

    def floor(self, mean, variant):
        return variant.tau * mean

    def search(self, magnitude, moments, floor):
        """Smallest kept magnitude (infinity: none) and scale of the best allowed threshold of each row."""
        order = np.argsort(-magnitude, axis=1)
        top, h = np.take_along_axis(magnitude, order, 1), np.take_along_axis(moments, order, 1)
        mass, total = (h * top).cumsum(axis=1), h.cumsum(axis=1)
        zeros = top.shape[1] - 1 - np.arange(top.shape[1])
        allowed = (top > floor) & np.hstack([top[:, :-1] > top[:, 1:], np.ones((len(top), 1), dtype=bool)])
        outside = np.where(allowed, self.outside_band(top.shape[1], zeros), np.inf)
        gain = np.where(allowed & (outside == outside.min(axis=1, keepdims=True)), self.gain(mass, total), -np.inf)
        best = gain.argmax(axis=1)[:, None]
        smallest, scale = np.take_along_axis(top, best, 1), np.take_along_axis(self.fit(mass, total, top), best, 1)
        found = allowed.any(axis=1, keepdims=True)
        return np.where(found, smallest, np.inf), np.where(found, scale, 0.0)

    def gain(self, mass, total):
        return mass**2 / np.where(total > 0, total, 1)

    def fit(self, mass, total, top):
        plain = top.cumsum(axis=1) / np.arange(1, top.shape[1] + 1)
        return np.where(mass > 0, mass / np.where(total > 0, total, 1), plain)

    def outside_band(self, n, zeros):
        return np.maximum(np.maximum(n - 20 * zeros, 20 * zeros - 9 * n), 0)

    def dequantize(self, quantized, variant):
        scale = quantized.scale
        if variant.granularity == "group":
            scale = scale.repeat_interleave(variant.group_size, dim=1)[:, : quantized.codes.shape[1]]
        return quantized.codes * scale

    # ------------------------------------------------------------------ calibration

    def second_moments(self, model, tokenizer, text, samples, tokens, seed):
        windows = self.draw(tokenizer.encode(text), samples, tokens, seed)
        inputs = {name: [] for name in self.calibrated_layers(model)}
        hooks = [
            model.get_submodule(name).register_forward_pre_hook(
                lambda _, given, seen=seen: seen.append(self.token_squares(given[0].flatten(0, -2)))
            )
            for name, seen in inputs.items()
        ]
        with torch.no_grad():
            for window in windows:
                model(torch.tensor([window]))
        self.remove(hooks)
        return {name: self.average(seen) for name, seen in inputs.items()}

    def draw(self, encoded, samples, tokens, seed):
        if len(encoded) < tokens:
            raise ValueError("the text is shorter than a sample")
        starts = np.random.default_rng(seed).integers(len(encoded) - tokens + 1, size=samples)
        return [encoded[start : start + tokens] for start in starts]

    def calibrated_layers(self, model):
        return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".layers." in name]

    def token_squares(self, x):
        return x.double().square()

    def average(self, seen):
        return torch.cat(seen).mean(dim=0).float()

    def remove(self, hooks):
        for hook in hooks:
            hook.remove()

    # ------------------------------------------------------------------ activations

    def quantize_activation(self, x):
        values = x.detach().double()
        if not torch.isfinite(values).all():
            raise ValueError("not finite")
        peak = values.abs().amax(dim=-1, keepdim=True)
        codes = (values * 127 / torch.where(peak > 0, peak, 1)).round()
        return codes.to(torch.int8), (peak / 127).float()

    # ------------------------------------------------------------------ packing

    def places(self, codec):
        if codec not in PLACES:
            raise ValueError(f"unknown codec {codec}")
        return torch.tensor(PLACES[codec])

    def pack(self, codes, codec):
        if not bool(((codes >= -1) & (codes <= 1)).all()):
            raise ValueError("codes outside {-1, 0, 1}")
        if codec == "int8":
            return codes.contiguous().view(torch.uint8).clone()
        places = self.places(codec)
        digits = F.pad(codes.long() + 1, (0, -codes.shape[1] % len(places)), value=1)
        return (digits.reshape(codes.shape[0], -1, len(places)) * places).sum(-1).to(torch.uint8)

    def unpack(self, packed, codec, width):
        per_byte = 1 if codec == "int8" else len(self.places(codec))
        if packed.ndim != 2 or width < 1 or packed.shape[1] != -(-width // per_byte):
            raise ValueError("bytes do not hold that width")
        if codec == "int8":
            codes = packed.contiguous().view(torch.int8).clone()
        else:
            radix = 4 if codec == "2bit" else 3
            digits = packed.long().unsqueeze(-1) // self.places(codec)
            self.check_digits(digits, radix)
            codes = (digits % radix - 1).flatten(1).to(torch.int8)
        self.check_codes(codes, width)
        return codes[:, :width]

    def check_digits(self, digits, radix):
        if radix == 3 and bool((digits[..., 0] > 242).any()):
            raise ValueError("byte above 242")

    def check_codes(self, codes, width):
        if not bool(((codes >= -1) & (codes <= 1)).all()) or bool(codes[:, width:].any()):
            raise ValueError("bytes that no codes give")

    # ------------------------------------------------------------------ layers

    layer_class: type[nn.Module]

    def training_linear(self, weight, bias, variant, quantize=True):
        return self.layer_class(self, weight, bias, variant, quantize)

    def inference_linear(self, weight, bias, variant):
        return Inference(self, weight, bias, variant)

    # ------------------------------------------------------------------ configuration

    def configure(self, parameters, **user):
        return self.resolve(parameters, Settings(**self.validated(user)))

    def reject(self, **user):
        self.validated(user)

    def read_configuration(self, parameters, file, overrides):
        try:
            given = {} if file is None else (yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {})
            for override in overrides:
                key, _, value = override.partition("=")
                given[key] = yaml.safe_load(value)
            return self.configure(parameters, **given)
        except (OSError, TypeError, yaml.YAMLError) as error:
            raise ValueError(str(error)) from error

    def write_configuration(self, **user):
        return yaml.safe_dump(vars(Settings(**self.validated(user))))

    def allowed(self, key, value):
        return LIMITS[key](value)

    def validated(self, user):
        for key, value in user.items():
            if key not in LIMITS:
                raise ValueError(f"unknown setting {key}")
            if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
                raise ValueError(f"{key} = {value!r} is not a number")
            if value is None and key not in ("sparsity_threshold", "compression_target"):
                raise ValueError(f"{key} takes a number")
            if not (value is None or np.isfinite(value)) or not self.allowed(key, value):
                raise ValueError(f"{key} = {value!r} is not allowed")
        return user

    table = (
        (50_000_000, 0.05, 6.0, "conservative"),
        (500_000_000, 0.10, 8.0, "standard"),
        (2_000_000_000, 0.15, 10.0, "aggressive"),
        (float("inf"), 0.20, 12.0, "maximum"),
    )

    def row(self, parameters):
        return next(row for row in self.table if parameters < row[0])

    def resolve(self, parameters, settings):
        _, threshold, target, quality = self.row(parameters)
        if settings.sparsity_threshold is None:
            settings = replace(settings, sparsity_threshold=threshold)
        if settings.compression_target is None:
            settings = replace(settings, compression_target=target)
        return vars(settings) | {"quality": quality}


@dataclass(frozen=True)
class Settings:
    """The audit's section 3."""

    quantization_bits: float = 1.58
    sparsity_threshold: float | None = None
    compression_target: float | None = None
    fine_tune_lr: float = 1e-5
    grokfast_lambda: float = 2.0
    grokfast_alpha: float = 0.98
    max_accuracy_drop: float = 0.10
    fine_tune_trigger: float = 0.05
    calibration_samples: int = 1000


class Training(nn.Module):
    """A linear layer that trains through the quantizers of its subject by the identity."""

    def __init__(self, subject, weight, bias, variant, quantize):
        super().__init__()
        self.subject, self.variant, self.quantize = subject, variant, quantize
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def quantized_weight(self):
        return self.subject.dequantize(self.subject.quantize_weight(self.weight, self.variant), self.variant)

    def quantized_input(self, x):
        codes, scale = self.subject.quantize_activation(x)
        return codes * scale

    def weight_through(self):
        return self.weight + (self.quantized_weight() - self.weight).detach()

    def input_through(self, x):
        return x + (self.quantized_input(x) - x).detach()

    def forward(self, x):
        if not self.quantize:
            return F.linear(x, self.weight, self.bias)
        return F.linear(self.input_through(x), self.weight_through(), self.bias)


class Inference(nn.Module):
    """The same layer on stored codes."""

    def __init__(self, subject, weight, bias, variant):
        super().__init__()
        self.subject, self.variant, self.bias = subject, variant, bias
        self.quantized = subject.quantize_weight(weight, variant)

    def forward(self, x):
        codes, scale = self.subject.quantize_activation(x)
        return F.linear(codes * scale, self.subject.dequantize(self.quantized, self.variant), self.bias)


ReferenceSubject.layer_class = Training
