"""The subject `bitnet`: this project's own implementation, seen through the protocol like any other.

Together with `harness.subjects.bitnet_models`, which has what works on whole models, this is all of the auditor that
imports `bitnet`. Rooms that load transformers, which takes seconds, are imported when they are called.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import bitnet
from bitnet.bitlinear import BitLinear, TernaryLinear
from bitnet.config import Codec, Phase4Config, Rule
from bitnet.packing import pack, unpack
from bitnet.quality import Measurements, gates, recovery_triggered, succeeded
from bitnet.quantizer import quantize_activation, quantize_weight
from bitnet.size_settings import SIZE_TABLE, size_class
from bitnet.ternary import TernaryWeight
from harness.subject import (
    JSON,
    Declaration,
    GateDecision,
    GateMeasurements,
    GivenWeights,
    JoinedProducts,
    OptimizerRecipe,
    PackedDecoder,
    PreparedProduct,
    QuantizedWeight,
    TieRule,
    WeightVariant,
)
from harness.subjects.bitnet_ecosystem import BitnetEcosystem
from harness.subjects.bitnet_models import BitnetModels
from harness.subjects.bitnet_scale import BitnetScale

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8, UInt8
    from torch import Tensor, nn
    from torch.optim import Optimizer


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


class BitnetSubject(BitnetModels, BitnetEcosystem, BitnetScale):
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

    def join_products(self, products: Sequence[PreparedProduct]) -> JoinedProducts:
        """`bitnet.kernels.PreparedWeights`."""
        from bitnet.kernels import PreparedWeights

        return PreparedWeights(cast(Any, products))

    def open_decoder(self, path: Path) -> PackedDecoder:
        """`bitnet.runtime.Runtime.open` with its defaults: one thread, the best kernels."""
        from bitnet.runtime import Runtime

        return Runtime.open(path)

    def write_packed(self, config: Mapping[str, JSON], weights: GivenWeights, out: Path) -> None:
        """`bitnet.artifacts.save_packed` of a model that has weights only where they are stored as they are."""
        write_packed(config, weights, out)

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
