"""Compensated ternarization of a whole model, block by block.

The hidden states of all calibration tokens travel through the decoder once. Each linear layer is made ternary at the
moment when its input arrives: that input comes from layers that are ternary already, so what those lose is compensated
as well (Frantar et al. 2022). Beside the model, only the hidden states and what one block computes are held.
"""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bitnet.architectures import blocks_prefix
from bitnet.bitlinear import ActivationBits, TernaryLinear
from bitnet.block_inputs import first_inputs, hidden_states
from bitnet.compensation import Compensated, Statistics, compensate
from bitnet.compressed_model import matrix
from bitnet.config import ScaleDtype
from bitnet.errors import BitnetError
from bitnet.layer_store import LayerStore, TernaryLayer
from bitnet.memory import give_back
from bitnet.quantizer import quantize_activation
from bitnet.reconstruction import Reconstruction, Reconstructor
from bitnet.ternary import TernarySum

#: Added to the diagonal of the second moments, in units of its mean.
DAMPING = 0.01
#: A token's squared input counts as this many medians at most: the first token of a text can have a thousand, and would
#: drown the others.
LARGEST_TOKEN = 4.0


@dataclass(frozen=True)
class Settings:
    """How layers are made ternary: `planes` by layer name; `group_size` None gives one scale per channel.

    With `reconstruction` each block is trained once its layers are ternary, before the next one's input is known.
    """

    planes: Mapping[str, int]
    group_size: int | None
    activation_bits: ActivationBits
    scale_dtype: ScaleDtype
    reconstruction: Reconstruction | None = None


@torch.no_grad()
def ternarize(
    model: PreTrainedModel,
    samples: Int64[Tensor, "samples tokens"],
    settings: Settings,
    store: LayerStore | None = None,
    progress: Callable[[int, int, str, float], None] | None = None,
) -> dict[str, TernaryLayer]:
    """Ternary planes of linear layers in the decoder blocks of `model`, which stays as it is.

    Args:
        samples: calibration tokens, all of them read at once.
        settings: planes by layer; layers that it does not name keep their weights.
        store: layers that an earlier, interrupted call has finished are taken from it, new ones are kept in it.
        progress: called with the layers done, the layers in all, the layer's name and its relative output error.

    Raises:
        BitnetError: an input is NaN or infinite; an architecture that is not supported.
    """
    prefix = blocks_prefix(model)
    found: dict[str, TernaryLayer] = {}

    def keep(name: str, layer: TernaryLayer) -> None:
        found[name] = layer
        if progress is not None:
            progress(len(found), len(settings.planes), name, layer.relative_error)

    training = model.training
    model.eval()
    try:
        args, kwargs = first_inputs(model, prefix, samples)
        reconstruct = None if settings.reconstruction is None else _Reconstruct(model, prefix, settings, store)
        for index, block in enumerate(model.get_submodule(prefix).children()):
            shared, within = _Shared(settings.group_size), f"{prefix}.{index}."
            probes = {
                id(module): _Probe(within + name, module, settings, shared, store, keep)
                for name, module in block.named_modules()
                if within + name in settings.planes and isinstance(module, nn.Linear | Conv1D)
            }
            # deepcopy asks its memo first: the copy of a block has probes for its layers, and shares nothing else.
            made = copy.deepcopy(block, dict(probes))
            output = made(*args, **kwargs)
            if reconstruct is not None and probes:
                trained = reconstruct(block, within, [probe.layer_name for probe in probes.values()], found)
                found |= trained
                for probe in probes.values():
                    probe.layer = trained[probe.layer_name]
                output = made(*args, **kwargs)
            args = (hidden_states(output), *args[1:])
            give_back()
    finally:
        model.train(training)
    return {name: found[name] for name in settings.planes}


@torch.no_grad()
def rounding_errors(
    model: PreTrainedModel, samples: Int64[Tensor, "samples tokens"], names: Collection[str], bits: ActivationBits
) -> dict[str, Float32[Tensor, "out"]]:
    """What compensation would leave of each layer's squared error at each output, up to a factor that all share.

    Rounding column j costs d^2 / U_jj^2 (see `bitnet.compensation`), and d goes with the size of the row's weights: so
    the error is the row's mean square times the sum of 1 / U_jj^2. Inputs are those of the full-precision model. It
    takes a quarter of the time that compensation takes.

    Raises:
        BitnetError: as `ternarize`.
    """
    prefix = blocks_prefix(model)
    found: dict[str, Float32[Tensor, out]] = {}
    args, kwargs = first_inputs(model, prefix, samples)
    for index, block in enumerate(model.get_submodule(prefix).children()):
        shared, within = _Shared(None), f"{prefix}.{index}."
        gauges = {
            id(module): _Gauge(within + name, module, shared, bits, found)
            for name, module in block.named_modules()
            if within + name in names and isinstance(module, nn.Linear | Conv1D)
        }
        args = (hidden_states(copy.deepcopy(block, dict(gauges))(*args, **kwargs)), *args[1:])
    return found


class _Gauge(nn.Module):
    """Stands in for a linear layer, does as it does, and keeps the error that rounding it would leave."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        shared: "_Shared",
        bits: ActivationBits,
        found: dict[str, Float32[Tensor, "out"]],
    ) -> None:
        super().__init__()
        self._name, self._shared, self._bits, self._found = name, shared, bits, found
        self._original = (module,)  # in a tuple, as a submodule would be copied and counted

    def forward(self, x: Float[Tensor, "samples tokens in"]) -> Float[Tensor, "samples tokens out"]:
        """Gauge the layer for this input, and run it."""
        (module,) = self._original
        inverse = self._shared.statistics(x, self._bits).upper.diagonal().double().square().reciprocal()
        weight = matrix(module).float()
        self._found[self._name] = weight.square().mean(dim=1) * float(inverse.sum())
        y: Tensor = module(x)
        return y


class _Probe(nn.Module):
    """Stands in for a linear layer until its input arrives, and then for its ternary form."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        settings: Settings,
        shared: "_Shared",
        store: LayerStore | None,
        keep: Callable[[str, TernaryLayer], None],
    ) -> None:
        super().__init__()
        self.layer_name, self._settings, self._shared, self._store, self._keep = name, settings, shared, store, keep
        self._original = (module,)  # in a tuple, as a submodule would be copied and counted
        self.layer: TernaryLayer | None = None

    def forward(self, x: Float[Tensor, "samples tokens in"]) -> Float[Tensor, "samples tokens out"]:
        """Make the layer ternary for this input, unless it is already, and run it."""
        (module,) = self._original
        settings = self._settings
        if self.layer is None:
            self.layer = self._find(matrix(module), x)
            self._keep(self.layer_name, self.layer)
        layer = self.layer
        bias = module.bias if isinstance(module.bias, Tensor) else None
        packed = TernaryLinear.from_ternary(layer.weight, bias, "int8", settings.activation_bits, settings.scale_dtype)
        y: Tensor = packed(x)
        return y

    def _find(self, weight: Float[Tensor, "out in"], x: Float[Tensor, "samples tokens in"]) -> TernaryLayer:
        """From the store, or made and put there."""
        if self._store is None:
            return self._make(weight, x)
        layer = self._store.get(self.layer_name, self._settings.planes[self.layer_name])
        if layer is None:
            layer = self._make(weight, x)
            self._store.put(self.layer_name, layer)
        return layer

    def _make(self, weight: Float[Tensor, "out in"], x: Float[Tensor, "samples tokens in"]) -> TernaryLayer:
        settings = self._settings
        try:
            statistics = self._shared.statistics(x, settings.activation_bits)
        except BitnetError as error:
            raise BitnetError(f"Layer '{self.layer_name}' cannot be compensated: {error}") from error
        made: Compensated = compensate(weight, statistics, settings.planes[self.layer_name], settings.scale_dtype)
        ternary = TernarySum(made.codes, made.scale, settings.group_size)
        return TernaryLayer.of(ternary, made.output_error, made.relative_error)


class _Reconstruct:
    """Trains the layers of one block after another, or takes them from where an earlier call has kept them."""

    def __init__(self, model: PreTrainedModel, prefix: str, settings: Settings, store: LayerStore | None) -> None:
        assert settings.reconstruction is not None
        self._settings, self._store = settings, None if store is None else store.branch("reconstructed")
        self._trainer = Reconstructor(
            model, prefix, settings.reconstruction, settings.activation_bits, settings.scale_dtype
        )

    def __call__(
        self, block: nn.Module, within: str, names: list[str], found: Mapping[str, TernaryLayer]
    ) -> dict[str, TernaryLayer]:
        """The layers `names` of `block`, which are called so in it behind `within`; `found` is where they begin."""
        layers = self._kept(names)
        if layers is None:
            inner = {name.removeprefix(within): found[name] for name in names}
            layers = {within + name: layer for name, layer in self._trainer.train(block, inner).items()}
            self._keep(layers)
        self._trainer.advance(block, {name.removeprefix(within): layer for name, layer in layers.items()})
        return layers

    def _keep(self, layers: Mapping[str, TernaryLayer]) -> None:
        if self._store is not None:
            for name, layer in layers.items():
                self._store.get(name, self._settings.planes[name])
                self._store.put(name, layer)

    def _kept(self, names: list[str]) -> dict[str, TernaryLayer] | None:
        if self._store is None:
            return None
        ahead = copy.copy(self._store)
        kept = {name: ahead.get(name, self._settings.planes[name]) for name in names}
        layers = {name: layer for name, layer in kept.items() if layer is not None}
        if len(layers) < len(names):
            return None
        self._store = ahead
        return layers


class _Shared:
    """Statistics of the latest input: layers that read one and the same tensor (q, k and v) share the work."""

    def __init__(self, group_size: int | None) -> None:
        self._group_size = group_size
        self._latest: tuple[Tensor, Statistics] | None = None

    def statistics(self, x: Float[Tensor, "samples tokens in"], bits: ActivationBits) -> Statistics:
        """Second moments of the input as the layer reads it, in float32 whatever it comes in."""
        if self._latest is None or self._latest[0] is not x:
            self._latest = None  # free it first
            moments = second_moments(x, bits)
            self._latest = (x, Statistics.of(moments, self._group_size, DAMPING))
        return self._latest[1]


def second_moments(x: Float[Tensor, "... in"], bits: ActivationBits) -> Float32[Tensor, "in in"]:
    """E[x x^T] over the tokens, the largest of them scaled down (`LARGEST_TOKEN`); with `bits` 8 of int8 inputs."""
    tokens = x.flatten(0, -2).float()
    if bits == 8:
        codes, scale = quantize_activation(tokens)
        tokens = codes * scale
    energy = tokens.square().sum(dim=1, keepdim=True)
    bound = LARGEST_TOKEN * energy.median()
    tokens = tokens * torch.where(energy > bound, (bound / energy).sqrt(), 1.0)
    return tokens.T @ tokens / len(tokens)
