"""A causal language model whose block projections are ternary, in its trainable, packed and plain forms."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bitnet.architectures import SUPPORTED, LayerDecision, keeping, layer_plan
from bitnet.bitlinear import ActivationBits, BitLinear, TernaryLinear
from bitnet.config import Phase4Config, Rule
from bitnet.errors import BitnetError
from bitnet.grid import within_cells
from bitnet.layer_store import TernaryLayer
from bitnet.lending import lent
from bitnet.tables import decode_table, encode_table, to_float16
from bitnet.ternary import TernaryWeight

__all__ = ["SUPPORTED", "CompressedModel", "LayerDecision", "latent_weight", "layer_plan", "replace_modules"]

#: Latent weights begin at least so far from the bounds of their codes, in units of the way to the value of the code.
LATENT_MARGIN = 0.1
#: Kinds of preserved layers whose weight is stored in `Phase4Config.embedding_dtype`.
TABLE_KINDS = ("embedding", "positional embedding", "head")


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """A transformers model in which every layer that `plan` quantizes has been replaced.

    `layers` maps their names to the replacements: `BitLinear` in the trainable form (float latent weights, quantized
    anew at every call), `TernaryLinear` in the packed form (what is stored). Forms are built as new models; none
    shares a parameter with the model that it was made from. `config` is resolved.
    """

    model: PreTrainedModel
    plan: tuple[LayerDecision, ...]
    config: Phase4Config
    layers: Mapping[str, BitLinear | TernaryLinear]

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        config: Phase4Config,
        second_moments: Mapping[str, Float32[Tensor, "in"]] | None = None,
    ) -> "CompressedModel":
        """The trainable form of a full-precision model, which stays untouched.

        Args:
            config: resolved for this model (`Phase4Config.resolved`).
            second_moments: E[x_j^2] of every quantized layer's input, for rule "optimal"; None weighs all alike.

        Raises:
            BitnetError: an architecture or layer that is not supported, a weight that cannot be quantized.
        """
        plan = layer_plan(model)
        layers: dict[str, BitLinear | TernaryLinear] = {}
        for decision in _quantized(plan):
            module = model.get_submodule(decision.name)
            weight, bias = matrix(module), module.bias
            moment = None if second_moments is None else second_moments[decision.name]
            layers[decision.name] = _bit_linear(weight, bias, config, moment)
        return cls(replace_modules(model, layers), plan, config, layers)

    @classmethod
    def from_planes(
        cls, model: PreTrainedModel, config: Phase4Config, found: Mapping[str, TernaryLayer]
    ) -> "CompressedModel":
        """The packed form of a full-precision model, which stays untouched, with ternary weights found elsewhere.

        Args:
            config: resolved for this model.
            found: the layers that `layer_plan` quantizes; one that is missing is kept in half precision.
        """
        plan = layer_plan(model)
        plan = keeping(plan, {decision.name for decision in _quantized(plan)} - found.keys())
        layers: dict[str, BitLinear | TernaryLinear] = {}
        for decision in _quantized(plan):
            bias = model.get_submodule(decision.name).bias
            layers[decision.name] = TernaryLinear.from_ternary(
                found[decision.name].weight, bias, config.codec, config.activation_bits, config.scale_dtype
            )
        made = cls(replace_modules(model, layers), plan, config, layers)
        made._round_tables(made.model)
        for decision in plan:
            if is_kept(decision):
                kept = made.model.get_submodule(decision.name).weight
                kept.data = to_float16(f"{decision.name}.weight", kept.data).float()
        made.model.requires_grad_(False).eval()
        return made

    def latent(self, original: PreTrainedModel | None = None) -> "CompressedModel":
        """The trainable form of this model: latent weights that quantize to its codes and scales.

        A single plane found by a rule is found by that rule again: codes are reproduced exactly, scales exactly under
        rule "optimal" and to float32 rounding under the others. Everything else gets scales that are trained beside the
        latent weights, and is reproduced exactly, though where two choices of codes have one value, by either.

        Args:
            original: the full-precision model. Latent weights on a grid are then as near to its weights as their codes
                allow; without it they are the grid's own values, from where a code takes long to change.
        """
        layers: dict[str, BitLinear | TernaryLinear] = {}
        for name, layer in self.layers.items():
            near = None if original is None else matrix(original.get_submodule(name))
            layers[name] = latent_layer(layer, self.config, near)
        return CompressedModel(replace_modules(self.model, layers), self.plan, self.config, layers)

    def packed(self) -> "CompressedModel":
        """The form that is stored and run: packed codes, scales, and tables rounded as they will be stored."""
        layers: dict[str, BitLinear | TernaryLinear] = {}
        for name, layer in self.layers.items():
            layers[name] = _packed_layer(layer, self.config)
        model = replace_modules(self.model, layers)
        self._round_tables(model)
        return CompressedModel(model.requires_grad_(False).eval(), self.plan, self.config, layers)

    def dequantized(self, dtype: torch.dtype = torch.float16) -> PreTrainedModel:
        """A plain transformers model with weights scale * codes rounded once to `dtype`, Conv1D layers restored.

        Tables are rounded as they are stored before they are cast; non-persistent buffers keep their precision.

        Raises:
            BitnetError: a value beyond the range of float16.
        """
        kinds = {decision.name: decision.kind for decision in self.plan}
        plain = {name: plain_layer(layer, kinds[name]) for name, layer in self.layers.items()}
        model = replace_modules(self.model, plain)
        self._round_tables(model)
        for name, parameter in model.named_parameters():
            parameter.data = to_float16(name, parameter.data) if dtype == torch.float16 else parameter.data.to(dtype)
        model.config.dtype = dtype
        return model.requires_grad_(False).eval()

    @property
    def zero_fraction(self) -> float:
        """Share of zero codes over all quantized weights, in [0, 1]."""
        zeros = weights = 0
        for layer in self.layers.values():
            with lent(layer):
                codes = layer.ternary().codes  # of all planes
            zeros += int((codes == 0).sum())
            weights += codes.numel()
        return zeros / weights

    @contextlib.contextmanager
    def activations(self, bits: ActivationBits) -> Iterator[None]:
        """Within the block every quantized layer reads its input as int8 (`bits` 8) or in floating point (None)."""
        before = {name: layer.activation_bits for name, layer in self.layers.items()}
        try:
            for layer in self.layers.values():
                layer.activation_bits = bits
            yield
        finally:
            for name, layer in self.layers.items():
                layer.activation_bits = before[name]

    def _round_tables(self, model: PreTrainedModel) -> None:
        for decision in self.plan:
            if decision.kind in TABLE_KINDS:
                table = model.get_submodule(decision.name).weight
                stored = encode_table(decision.name, table.data, self.config.embedding_dtype)
                table.data = decode_table(stored, table.shape[1])


def replace_modules(model: PreTrainedModel, replacements: Mapping[str, nn.Module]) -> PreTrainedModel:
    """A copy of `model` in which the named submodules are the given ones; everything else is copied, ties included.

    The modules that are replaced are never copied, so that no weight is held twice.
    """
    # deepcopy asks its memo first: listing a replacement there makes it the "copy" of the original.
    memo: dict[int, object] = {id(model.get_submodule(name)): module for name, module in replacements.items()}
    return copy.deepcopy(model, memo)


def latent_layer(
    layer: BitLinear | TernaryLinear, config: Phase4Config, near: Float[Tensor, "out in"] | None = None
) -> BitLinear:
    """The trainable form of one layer, see `CompressedModel.latent`; `near` are the full-precision weights, if any."""
    ternary = layer.ternary()
    if len(ternary.planes) == 1 and config.compensation == "none":
        return _bit_linear(latent_weight(ternary.planes[0], config.rule), layer.bias, config, None)
    weight = within_cells(ternary.dequantize() if near is None else near, ternary, LATENT_MARGIN)
    return _bit_linear(weight, layer.bias, config, None, ternary.scale)


def ternary_layer(
    module: nn.Module, config: Phase4Config, second_moment: Float32[Tensor, "in"] | None = None
) -> TernaryLinear:
    """The packed form of one full-precision layer by the rule, as `CompressedModel.from_model(...).packed()` has it."""
    bias = module.bias if isinstance(module.bias, Tensor) else None
    latent = _bit_linear(matrix(module), bias, config, second_moment)
    return _packed_layer(latent, config)


def plain_layer(layer: BitLinear | TernaryLinear, kind: str) -> nn.Module:
    """The full-precision form of one layer, its weight scale * codes in float32, as a module of its original kind."""
    return _plain_layer(layer.ternary().dequantize(torch.float32), layer.bias, kind)


def latent_weight(ternary: TernaryWeight, rule: Rule) -> Float[Tensor, "out in"]:
    """Float weights that `rule` quantizes back to `ternary`.

    scale * codes does for rule "optimal", whose scale is a mean over the support. The scale of the other rules is the
    mean over all weights of the group, zeros included, so the others are scaled up to make up for the zeros.
    """
    weight = ternary.dequantize(torch.float32)
    if rule == "optimal":
        return weight
    rows, width = ternary.codes.shape
    if ternary.scale.shape == (1, 1):
        mean = ternary.codes.abs().double().mean()
        return (weight / mean.clamp_min(1 / weight.numel())).float()
    if ternary.group_size is None:
        occupied = torch.count_nonzero(ternary.codes, dim=1).double()[:, None]
        return (weight * (width / occupied.clamp_min(1.0))).float()
    support = ternary.codes.abs().double()
    size = ternary.group_size
    groups = -(-width // size)
    index = torch.arange(width) // size
    occupied = torch.zeros(rows, groups, dtype=torch.float64).index_add_(1, index, support)
    sizes = torch.bincount(index, minlength=groups)
    return (weight * (sizes / occupied.clamp_min(1.0))[:, index]).float()


def is_kept(decision: LayerDecision) -> bool:
    """Whether a projection that would be quantized is stored in float16 instead."""
    return not decision.quantized and decision.kind in ("linear", "conv1d")


def _quantized(plan: tuple[LayerDecision, ...]) -> Iterator[LayerDecision]:
    return (decision for decision in plan if decision.quantized)


def matrix(module: nn.Module) -> Float[Tensor, "out in"]:
    """The weight as [out, in]; transformers' Conv1D keeps it as [in, out]."""
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise BitnetError(f"A layer of type {type(module).__name__} has no weight tensor, so it cannot be compressed.")
    return weight.detach().T if isinstance(module, Conv1D) else weight.detach()


def _bit_linear(
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, "out"] | None,
    config: Phase4Config,
    second_moment: Float32[Tensor, "in"] | None,
    scale: Float32[Tensor, "planes rows groups"] | None = None,
) -> BitLinear:
    """A layer with copies of `weight`, `bias` and `scale`."""
    assert config.sparsity_threshold is not None  # resolved
    return BitLinear(
        weight,
        None if bias is None else bias.detach(),
        rule=config.rule,
        granularity=config.granularity,
        group_size=config.group_size,
        tau=config.sparsity_threshold,
        activation_bits=config.activation_bits,
        second_moment=second_moment,
        planes=config.planes,
        scale_dtype=config.scale_dtype,
        scale=scale,
    )


def _packed_layer(layer: BitLinear | TernaryLinear, config: Phase4Config) -> TernaryLinear:
    return TernaryLinear.from_ternary(
        layer.ternary(), layer.bias, config.codec, config.activation_bits, config.scale_dtype
    )


def _plain_layer(weight: Float[Tensor, "out in"], bias: Tensor | None, kind: str) -> nn.Module:
    rows, columns = weight.shape
    # On the meta device nothing is allocated or drawn: both parameters are replaced at once.
    with torch.device("meta"):
        layer = Conv1D(rows, columns) if kind == "conv1d" else nn.Linear(columns, rows, bias=bias is not None)
    layer.weight = nn.Parameter(weight.T.contiguous() if kind == "conv1d" else weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
