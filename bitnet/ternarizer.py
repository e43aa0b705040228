"""Compensated ternarization of a whole model, block by block.

The hidden states of all calibration tokens travel through the decoder once. Each linear layer is made ternary at the
moment when its input arrives: that input comes from layers that are ternary already, so what those lose is compensated
as well (Frantar et al. 2022). Beside the model, only the hidden states and what one block computes are held.
"""

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bitnet.architectures import blocks_prefix
from bitnet.bitlinear import ActivationBits, TernaryLinear
from bitnet.compensation import Compensated, Statistics, compensate
from bitnet.compressed_model import matrix
from bitnet.config import ScaleDtype
from bitnet.errors import BitnetError
from bitnet.layer_store import LayerStore, TernaryLayer
from bitnet.memory import give_back
from bitnet.quantizer import quantize_activation
from bitnet.ternary import TernarySum

#: Added to the diagonal of the second moments, in units of its mean.
DAMPING = 0.01
#: A token's squared input counts as this many medians at most: the first token of a text can have a thousand, and would
#: drown the others.
LARGEST_TOKEN = 4.0


@dataclass(frozen=True)
class Settings:
    """How layers are made ternary: `planes` by layer name; `group_size` None gives one scale per channel."""

    planes: Mapping[str, int]
    group_size: int | None
    activation_bits: ActivationBits
    scale_dtype: ScaleDtype


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
        args, kwargs = _first_inputs(model, prefix, samples)
        for index, block in enumerate(model.get_submodule(prefix).children()):
            shared = _Shared(settings.group_size)
            probes = {
                id(module): _Probe(f"{prefix}.{index}.{name}", module, settings, shared, store, keep)
                for name, module in block.named_modules()
                if f"{prefix}.{index}.{name}" in settings.planes and isinstance(module, nn.Linear | Conv1D)
            }
            # deepcopy asks its memo first: the copy of a block has probes for its layers, and shares nothing else.
            output = copy.deepcopy(block, dict(probes))(*args, **kwargs)
            args = (output[0] if isinstance(output, tuple) else output, *args[1:])
            give_back()
    finally:
        model.train(training)
    return {name: found[name] for name in settings.planes}


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
        self._name, self._settings, self._shared, self._store, self._keep = name, settings, shared, store, keep
        self._original = (module,)  # in a tuple, as a submodule would be copied and counted

    def forward(self, x: Float[Tensor, "samples tokens in"]) -> Float[Tensor, "samples tokens out"]:
        """Make the layer ternary for this input, and run it."""
        (module,) = self._original
        settings = self._settings
        layer = None if self._store is None else self._store.get(self._name, settings.planes[self._name])
        if layer is None:
            layer = self._make(matrix(module), x)
            if self._store is not None:
                self._store.put(self._name, layer)
        self._keep(self._name, layer)
        bias = module.bias if isinstance(module.bias, Tensor) else None
        packed = TernaryLinear.from_ternary(layer.weight, bias, "int8", settings.activation_bits, settings.scale_dtype)
        y: Tensor = packed(x)
        return y

    def _make(self, weight: Float[Tensor, "out in"], x: Float[Tensor, "samples tokens in"]) -> TernaryLayer:
        settings = self._settings
        try:
            statistics = self._shared.statistics(x, settings.activation_bits)
        except BitnetError as error:
            raise BitnetError(f"Layer '{self._name}' cannot be compensated: {error}") from error
        made: Compensated = compensate(weight, statistics, settings.planes[self._name], settings.scale_dtype)
        ternary = TernarySum(made.codes, made.scale, settings.group_size)
        return TernaryLayer.of(ternary, made.output_error, made.relative_error)


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


class _ArrivedError(Exception):
    """Ends a forward pass once the input of the first block is known."""


def _first_inputs(
    model: PreTrainedModel, prefix: str, samples: Int64[Tensor, "samples tokens"]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the first block is called with: hidden states first, then masks and positions."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def arrive(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise _ArrivedError

    handle = model.get_submodule(f"{prefix}.0").register_forward_pre_hook(arrive, with_kwargs=True)
    try:
        with contextlib.suppress(_ArrivedError):
            model.base_model(input_ids=samples.to(model.device), use_cache=False)
    finally:
        handle.remove()
    args, kwargs = found[0]
    if not args:
        args = (kwargs.pop("hidden_states"),)
    return args, kwargs
