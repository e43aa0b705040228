"""The subject `bitnet`: this project's own implementation, seen through the protocol like any other.

This is the only module of the auditor that imports `bitnet`. Whole-model operations import their rooms when they are
called: transformers takes seconds to load, and the checks of weights, packing and layers do not need it.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import bitnet
from bitnet.bitlinear import BitLinear, TernaryLinear
from bitnet.config import SIZE_TABLE, Codec, Phase4Config, Rule, size_class
from bitnet.packing import pack, unpack
from bitnet.quality import Measurements, gates, recovery_triggered, succeeded
from bitnet.quantizer import quantize_activation, quantize_weight
from bitnet.ternary import TernaryWeight
from harness.subject import (
    JSON,
    CompressionOutcome,
    CompressionReport,
    Declaration,
    GateDecision,
    GateMeasurements,
    GivenWeights,
    OptimizerRecipe,
    PackedDecoder,
    PerplexityFigures,
    PreparedProduct,
    QuantizedWeight,
    TieRule,
    WeightVariant,
)
from harness.subject_interop import EXPORT_TARGETS
from harness.subjects.bitnet_ecosystem import BitnetEcosystem

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8, Int64, UInt8
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from bitnet.result import Phase4Result

TAU: Final = 0.05
GROUP_SIZE: Final = 128
TIE_RULES: Final[Mapping[str, TieRule]] = {
    "threshold": "strictly_greater",
    "absmean": "half_even",
    "optimal": "strictly_greater",
}


def reference_model(name: str) -> Path:
    """The Hugging Face folder of a built-in model, or the path that was given, for plain transformers to load."""
    from bitnet.builtin import BUILTIN, materialise

    return materialise(name) if name in BUILTIN else Path(name)


def _variant(rule: Rule, granularity: str) -> WeightVariant:
    return WeightVariant(
        rule=rule,
        granularity=cast(Any, granularity),
        group_size=GROUP_SIZE if granularity == "group" else None,
        tau=None if rule == "absmean" else TAU,
        tie_rule=TIE_RULES[rule],
        scale_rule="least_squares" if rule == "optimal" else "absmean",
        second_moment=rule == "optimal",
    )


class _Stopped(Exception):  # noqa: N818 - nothing has gone wrong
    """Fine-tuning is to end here, as if it had been killed."""


class BitnetSubject(BitnetEcosystem):
    """Every capability of the protocol, on `bitnet`'s public functions alone."""

    declaration = Declaration(
        name="bitnet",
        version=version("bitnet-audit"),
        variants=tuple(
            _variant(rule, granularity) for rule in get_args(Rule) for granularity in ("tensor", "channel", "group")
        ),
        codecs=get_args(Codec),
        ste="identity",
        scale_convention="multiply",
        activation_range=(-127, 127),
        source_root=Path(bitnet.__file__).parent,
        audit_settings={"recovery_recipe": "audit"},
    )

    @property
    def command(self) -> tuple[str, ...]:
        """Our command line, run by this interpreter."""
        return (sys.executable, "-m", "bitnet")

    # ----------------------------------------------------------------- weights, activations, bytes

    def quantize_weight(
        self, weight: Float[Tensor, "out in"], variant: WeightVariant, second_moment: Float[Tensor, " in"] | None = None
    ) -> QuantizedWeight:
        """`bitnet.quantizer.quantize_weight` with the variant's options."""
        ternary = quantize_weight(weight, second_moment=second_moment, **_options(variant))
        return QuantizedWeight(ternary.codes, ternary.scale)

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """`TernaryWeight.dequantize` in float32."""
        return TernaryWeight(quantized.codes, quantized.scale, variant.group_size).dequantize()

    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """`bitnet.quantizer.quantize_activation`."""
        return quantize_activation(x)

    def pack(self, codes: Int8[Tensor, "out in"], codec: str) -> UInt8[Tensor, "out bytes"]:
        """`bitnet.packing.pack`."""
        return pack(codes, cast(Codec, codec))

    def unpack(self, packed: UInt8[Tensor, "out bytes"], codec: str, width: int) -> Int8[Tensor, "out in"]:
        """`bitnet.packing.unpack`."""
        return unpack(packed, cast(Codec, codec), width)

    # ----------------------------------------------------------------- layers

    def training_linear(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        variant: WeightVariant,
        quantize: bool = True,
    ) -> nn.Module:
        """A `BitLinear` on the latent weight."""
        layer = BitLinear(weight, bias, **_options(variant))
        layer.quantize = quantize
        return layer

    def inference_linear(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None, variant: WeightVariant
    ) -> nn.Module:
        """A `TernaryLinear` on 2-bit codes."""
        return TernaryLinear.from_ternary(quantize_weight(weight, **_options(variant)), bias, codec="2bit")

    # ----------------------------------------------------------------- speed

    @property
    def product_backends(self) -> tuple[str, ...]:
        """`bitnet.kernels.backends`."""
        from bitnet.kernels import backends

        return tuple(backends())

    def prepare_product(
        self, planes: Sequence[QuantizedWeight], bias: Float[Tensor, " out"] | None = None, backend: str | None = None
    ) -> PreparedProduct:
        """`bitnet.kernels.PreparedWeight` on one thread."""
        from bitnet.kernels import PreparedWeight

        ternary = [TernaryWeight(plane.codes, plane.scale, plane.group_size) for plane in planes]
        return PreparedWeight.from_ternary(ternary, bias, backend=backend)

    def open_decoder(self, path: Path) -> PackedDecoder:
        """`bitnet.runtime.Runtime.open` with its defaults: one thread, the best kernels."""
        from bitnet.runtime import Runtime

        return Runtime.open(path)

    def write_packed(self, config: Mapping[str, JSON], weights: GivenWeights, out: Path) -> None:
        """`bitnet.artifacts.save_packed` of a model that has weights only where they are stored as they are."""
        write_packed(config, weights, out)

    # ----------------------------------------------------------------- other libraries

    registering_module = "bitnet"
    export_targets = EXPORT_TARGETS
    lm_eval_model = ("bitnet", "path")
    local_tasks = ("bitnet_stdlib_facts", "bitnet_copy")

    @property
    def lm_eval_command(self) -> tuple[str, ...]:
        """`bitnet lm-eval`."""
        return (*self.command, "lm-eval")

    @property
    def task_folder(self) -> Path:
        """`bitnet.tasks`."""
        from bitnet.tasks import FOLDER

        return FOLDER

    def pack_for_export(self, model_folder: Path, target: str, out: Path) -> Path:
        """`bitnet.compressed_model` by rule "absmean", saved as it is."""
        from bitnet.artifacts import save_packed
        from bitnet.compressed_model import CompressedModel
        from bitnet.huggingface import load_folder

        model, tokenizer = load_folder(model_folder)
        granularity = "tensor" if target == "huggingface" else "channel"
        config = Phase4Config(rule="absmean", granularity=granularity, planes=1, compensation="none")
        out.mkdir(parents=True)
        save_packed(CompressedModel.from_model(model, config.resolved(model.num_parameters())).packed(), tokenizer, out)
        return out

    def export(self, packed: Path, target: str, out: Path) -> None:
        """`bitnet.export.export`."""
        from bitnet.export import export

        if target == "gguf-f16":
            export(packed, out, "gguf", "f16")
        else:
            export(packed, out, target)

    # ----------------------------------------------------------------- configuration

    def configure(self, parameters: int, **user: Any) -> Mapping[str, Any]:
        """Every field of the resolved `Phase4Config`, with the size class and its quality from the table."""
        return _resolved(Phase4Config(**user), parameters)

    def reject(self, **user: Any) -> None:
        """Validate by making a `Phase4Config`."""
        Phase4Config(**user)

    def read_configuration(self, parameters: int, file: Path | None, overrides: Sequence[str]) -> Mapping[str, Any]:
        """`Phase4Config.from_yaml` and `with_overrides`, as `bitnet compress --config --set` uses them."""
        config = Phase4Config() if file is None else Phase4Config.from_yaml(file)
        return _resolved(config.with_overrides(overrides), parameters)

    def write_configuration(self, **user: Any) -> str:
        """`Phase4Config.to_yaml`."""
        return Phase4Config(**user).to_yaml()

    # ----------------------------------------------------------------- decisions, optimizer

    def decide_gates(
        self, measured: GateMeasurements, max_accuracy_drop: float, compression_target: float
    ) -> GateDecision:
        """`bitnet.quality.gates` and `succeeded`."""
        figures = asdict(measured)
        reproduced = figures.pop("reproduced")
        decided = gates(Measurements(**figures), max_accuracy_drop, compression_target)
        return GateDecision({gate.name: gate.passed for gate in decided}, succeeded(decided, reproduced))

    def recovery_triggered(self, before: float, after: float, trigger: float) -> bool:
        """`bitnet.quality.recovery_triggered`."""
        return recovery_triggered(before, after, trigger)

    @property
    def optimizer_recipe(self) -> OptimizerRecipe:
        """The defaults of `MuGrokfast`."""
        return OptimizerRecipe(momentum=0.95, update_scale="match_rms_adamw", betas=(0.9, 0.999), eps=1e-8, qk_clip=0.2)

    def optimizer(self, model: nn.Module, lr: float, alpha: float, lam: float, weight_decay: float = 0.0) -> Optimizer:
        """`MuGrokfast.for_model`."""
        from bitnet.mugrokfast import MuGrokfast

        return MuGrokfast.for_model(model, lr=lr, grokfast_alpha=alpha, grokfast_lambda=lam, weight_decay=weight_decay)

    def fine_tune(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, warmup_steps: int, lr: float
    ) -> nn.Module:
        """`bitnet.fine_tuner.recover`, told that each step is better than the one before: it keeps the last."""
        from bitnet.artifacts import load_trainable
        from bitnet.fine_tuner import recover

        config = Phase4Config(fine_tune_steps=steps, warmup_steps=warmup_steps, fine_tune_lr=lr, fine_tune_budget=None)
        compressed, falling = load_trainable(packed), itertools.count(0, -1)
        recover(compressed, samples, config, lambda: float(next(falling)))
        model: nn.Module = compressed.model
        return model

    def fine_tune_resumably(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, folder: Path, stop_after: int | None
    ) -> nn.Module | None:
        """`bitnet.fine_tuner.recover` with `Checkpoints`; it keeps the last step's weights."""
        from bitnet.artifacts import load_trainable
        from bitnet.fine_tuner import recover
        from bitnet.recovery_checkpoint import Checkpoints

        config = Phase4Config(
            fine_tune_steps=steps, fine_tune_lr=1e-3, fine_tune_decay=0.5, fine_tune_dropout=True, fine_tune_budget=None
        )
        compressed, latest = load_trainable(packed), 0

        def progress(done: int, planned: int) -> None:
            nonlocal latest
            latest = done
            if done == stop_after and done < planned:
                raise _Stopped

        with contextlib.suppress(_Stopped):
            recover(
                compressed, samples, config, lambda: -float(latest), progress, None, Checkpoints(folder, "audit", 3)
            )
            model: nn.Module = compressed.model
            return model
        return None

    # ----------------------------------------------------------------- models

    def perplexity(
        self, model: Any, tokenizer: Any, documents: Sequence[str], context_length: int, batch_size: int
    ) -> PerplexityFigures:
        """`bitnet.perplexity.perplexity`."""
        from bitnet.perplexity import perplexity

        result = perplexity(model, tokenizer, documents, context_length, batch_size)
        return PerplexityFigures(
            tokens=result.tokens,
            words=result.words,
            bytes=result.bytes,
            loglikelihoods=tuple(document.loglikelihood for document in result.documents),
            token_perplexity=result.token_perplexity,
            word_perplexity=result.word_perplexity,
            byte_perplexity=result.byte_perplexity,
            bits_per_byte=result.bits_per_byte,
            next_token_accuracy=result.next_token_accuracy,
        )

    def second_moments(
        self, model: Any, tokenizer: Any, text: str, samples: int, tokens: int, seed: int
    ) -> Mapping[str, Float[Tensor, " in"]]:
        """`bitnet.calibration` over the layers that the plan quantizes."""
        from bitnet.architectures import layer_plan
        from bitnet.calibration import calibration_samples, second_moments

        drawn = calibration_samples(tokenizer, text, samples, tokens, seed)
        layers = [decision.name for decision in layer_plan(model) if decision.quantized]
        return second_moments(model, layers, drawn, batch_size=4)

    def layer_plan(self, model: Any) -> Sequence[tuple[str, bool, str]]:
        """`bitnet.architectures.layer_plan`."""
        from bitnet.architectures import layer_plan

        return [(decision.name, decision.quantized, decision.reason) for decision in layer_plan(model)]

    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        """`bitnet.phase_controller.run_phase4` with overrides as the command line takes them."""
        from bitnet.phase_controller import run_phase4

        config = Phase4Config().with_overrides([f"{key}={value}" for key, value in overrides.items()])
        result = run_phase4(str(model_folder), out, config, progress=False)
        return CompressionOutcome(out / "packed", out / "fp16", result.model_dump(mode="json"), _report(result))

    def load_packed(self, path: Path) -> tuple[Any, Any]:
        """`bitnet.artifacts.load_packed`: the model that runs on packed codes, and its tokenizer."""
        from bitnet.artifacts import load_packed

        compressed, tokenizer = load_packed(path)
        return compressed.model, tokenizer

    def load_trainable(self, path: Path) -> nn.Module:
        """`bitnet.artifacts.load_trainable`: the artefact on latent weights, behind straight-through estimators."""
        from bitnet.artifacts import load_trainable

        model: nn.Module = load_trainable(path).model
        return model

    def quantized_weights(self, path: Path) -> Mapping[str, QuantizedWeight]:
        """Codes and scales of every ternary layer of a packed artefact."""
        from bitnet.artifacts import load_packed

        layers = load_packed(path)[0].layers
        return {name: _quantized(layer) for name, layer in layers.items() if isinstance(layer, TernaryLinear)}

    def gradient_failures(self, model: nn.Module, tokens: Int64[Tensor, "batch length"]) -> Sequence[str]:
        """`bitnet.gradient_flow`, as stage 7 runs it on the artefact."""
        from bitnet.gradient_flow import gradient_flow

        layers = {name: module.weight for name, module in model.named_modules() if isinstance(module, BitLinear)}
        return [layer.name for layer in gradient_flow(cast(Any, model), layers, tokens).failures]


def write_packed(config: Mapping[str, JSON], weights: GivenWeights, out: Path) -> None:
    """As `WritesPacked.write_packed`; the quantized layers stay on the meta device, only their codes exist."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from bitnet.architectures import layer_plan
    from bitnet.artifacts import save_packed
    from bitnet.compressed_model import CompressedModel

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**config))
    given = Phase4Config(rule="absmean", codec="2bit", embedding_dtype="int8", granularity="tensor")
    settings = given.resolved(model.num_parameters())
    plan = layer_plan(model)
    layers: dict[str, BitLinear | TernaryLinear] = {}
    for name, quantized, kind in ((decision.name, decision.quantized, decision.kind) for decision in plan):
        module = model.get_submodule(name)
        shape = tuple(module.weight.shape)
        if quantized:
            matrix = weights.ternary(name, shape)
            layers[name] = TernaryLinear.from_ternary(TernaryWeight(matrix.codes, matrix.scale), codec=settings.codec)
        else:
            values = weights.vector(name, shape[0]) if kind == "norm" else weights.table(name, shape)
            module.weight = torch.nn.Parameter(values, requires_grad=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"": 0}, unk_token="")))
    out.mkdir(parents=True)
    save_packed(CompressedModel(model, plan, settings, layers), tokenizer, out)


def _report(result: Phase4Result) -> CompressionReport:
    """What `result.json` says; a perplexity that JSON cannot hold is infinite."""
    before, after = result.before.token_perplexity, result.final.token_perplexity
    return CompressionReport(
        parameters=result.parameters,
        packed_bytes=result.sizes.packed_bytes,
        compression_ratio=result.sizes.compression_ratio,
        zero_fraction=result.zero_fraction,
        quantized_layers=tuple(layer.name for layer in result.layers),
        context_length=result.config["context_length"],
        perplexity_before=math.inf if before is None else before,
        perplexity_after=math.inf if after is None else after,
        gradient_failures=tuple(layer.name for layer in result.layers if layer.gradient_problem is not None),
    )


def _quantized(layer: TernaryLinear) -> QuantizedWeight:
    """The protocol's record of a stored weight, scales in the type that they are stored in."""
    parts = zip(layer.ternary().codes, layer.scale, strict=True)
    first, *others = (QuantizedWeight(codes, scale, layer.group_size) for codes, scale in parts)
    return replace(first, further=tuple(others))


def _options(variant: WeightVariant) -> dict[str, Any]:
    """The keyword arguments of `quantize_weight` and `BitLinear` that a variant stands for."""
    return {
        "rule": variant.rule,
        "granularity": variant.granularity,
        "group_size": variant.group_size or GROUP_SIZE,
        "tau": TAU if variant.tau is None else variant.tau,
    }


def _resolved(config: Phase4Config, parameters: int) -> Mapping[str, Any]:
    size = size_class(parameters)
    return dict(config.resolved(parameters)) | {"size_class": size, "quality": SIZE_TABLE[size].quality}
