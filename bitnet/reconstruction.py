"""Reconstruction of decoder blocks: a short training of a block's ternary layers together, one block at a time.

Compensation makes up for rounding within a layer. What the layers of a block can make up for together, codes and scales
learn here, so that the block gives what the full-precision one does (Li et al. 2021, "BRECQ"; Chen et al. 2024,
"EfficientQAT", section 3.2). The block reads what ternary blocks before it give, while its target comes from a model
without any: what they have lost is made up for as well, as far as it can be. A step costs a thirtieth of one through a
model of thirty blocks with its head, and no more than one block with its optimizer is held.
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitnet.bitlinear import ActivationBits, BitLinear
from bitnet.block_inputs import first_inputs, hidden_states
from bitnet.compressed_model import LATENT_MARGIN, matrix
from bitnet.config import ScaleDtype
from bitnet.errors import BitnetError
from bitnet.fine_tuner import rate_factor
from bitnet.grid import within_cells
from bitnet.layer_store import TernaryLayer

#: Steps in which the learning rate rises, and the share of all steps over which it falls to 0.
WARMUP, DECAY = 5, 0.7
#: AdamW's moving averages: shorter than usual, as training is.
BETAS = (0.9, 0.99)
#: A token's error counts relative to its own square, but to no less than this share of the median token's.
SMALLEST_TOKEN = 0.05


@dataclass(frozen=True)
class Reconstruction:
    """How blocks are trained: on which text, for how many steps of `batch_size` of its samples each."""

    samples: Int64[Tensor, "samples tokens"]
    steps: int
    learning_rate: float
    batch_size: int
    seed: int
    narrow: bool
    """Whether to compute in bfloat16."""

    @property
    def key(self) -> tuple[str | float, ...]:
        """What tells these settings and this text from others."""
        text = hashlib.sha256(self.samples.contiguous().numpy().tobytes()).hexdigest()
        return (text, self.steps, self.learning_rate, self.batch_size, self.seed, self.narrow)


class Reconstructor:
    """Takes the blocks of a model one after another; holds the hidden states that reach the next one."""

    def __init__(
        self,
        model: PreTrainedModel,
        prefix: str,
        settings: Reconstruction,
        activation_bits: ActivationBits,
        scale_dtype: ScaleDtype,
    ) -> None:
        """Args: `prefix`, where the blocks are; the layers' `activation_bits` and `scale_dtype`, as they will run."""
        size = min(settings.batch_size, len(settings.samples))
        samples = settings.samples[: len(settings.samples) // size * size]  # masks are made for whole batches
        self._settings, self._size = settings, size
        self._bits, self._scale_dtype = activation_bits, scale_dtype
        self._exact = torch.cat([first_inputs(model, prefix, part)[0][0] for part in torch.split(samples, size)])
        self._ternary = self._exact
        args, self._kwargs = first_inputs(model, prefix, samples[:size])
        self._rest = args[1:]
        self._index = 0
        self._target: Tensor | None = None

    def train(self, block: nn.Module, layers: Mapping[str, TernaryLayer]) -> dict[str, TernaryLayer]:
        """The layers of the next block, trained, by their names within it; their errors are those from before.

        Raises:
            BitnetError: the error is NaN or infinite.
        """
        trained = {name: self._trainable(block.get_submodule(name), layer) for name, layer in layers.items()}
        target = self._target = self._run(block, self._exact)
        with torch.enable_grad():
            self._fit(_with_layers(block, trained), trained, target)
        return {
            name: TernaryLayer.of(layer.ternary(), layers[name].output_error, layers[name].relative_error)
            for name, layer in trained.items()
        }

    def advance(self, block: nn.Module, layers: Mapping[str, TernaryLayer]) -> None:
        """Go on to the block after `block`, whose layers have become `layers`."""
        made = {name: self._trainable(block.get_submodule(name), layer) for name, layer in layers.items()}
        self._exact = self._run(block, self._exact) if self._target is None else self._target
        self._ternary = self._run(_with_layers(block, made), self._ternary)
        self._index, self._target = self._index + 1, None

    def _trainable(self, module: nn.Module, layer: TernaryLayer) -> BitLinear:
        weight = layer.weight
        return BitLinear(
            within_cells(matrix(module), weight, LATENT_MARGIN),
            module.bias.detach() if isinstance(module.bias, Tensor) else None,
            granularity="group" if layer.group_size else "channel",
            group_size=layer.group_size or layer.width,
            activation_bits=self._bits,
            scale_dtype=self._scale_dtype,
            scale=weight.scale,
        )

    def _fit(self, block: nn.Module, layers: Mapping[str, BitLinear], target: Float32[Tensor, "samples n d"]) -> None:
        """Train codes and scales; biases, norms and what else there is stay."""
        settings, size = self._settings, self._size
        block.requires_grad_(False)
        parameters = [p for layer in layers.values() for p in layer.parameters() if p is not layer.bias]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, settings.learning_rate, BETAS, weight_decay=0.0)
        energy = target.square().sum(dim=2)
        energy = energy.clamp_min(SMALLEST_TOKEN * float(energy.median()))
        generator = torch.Generator().manual_seed((settings.seed + self._index) % 2**63)
        order = torch.empty(0, dtype=torch.int64)
        for step in range(settings.steps):
            if len(order) < size:
                order = torch.randperm(len(target), generator=generator)
            chosen, order = order[:size], order[size:]
            given = self._forward(block, self._ternary[chosen])
            loss = ((given - target[chosen]).square().sum(dim=2) / energy[chosen]).mean()
            if not torch.isfinite(loss):
                raise BitnetError("the error of a block under reconstruction is NaN or infinite: lower its rate.")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate_factor(step, settings.steps, WARMUP, DECAY)
            optimizer.step()

    @torch.no_grad()
    def _run(self, block: nn.Module, hidden: Float[Tensor, "samples n d"]) -> Float32[Tensor, "samples n d"]:
        return torch.cat([self._forward(block, part) for part in torch.split(hidden, self._size)])

    def _forward(self, block: nn.Module, hidden: Float[Tensor, "batch n d"]) -> Float32[Tensor, "batch n d"]:
        with torch.autocast(hidden.device.type, torch.bfloat16, enabled=self._settings.narrow):
            return hidden_states(block(hidden, *self._rest, **self._kwargs)).float()


def _with_layers(block: nn.Module, layers: Mapping[str, BitLinear]) -> nn.Module:
    """A copy of `block` with these layers; deepcopy asks its memo first, so what they replace is not copied."""
    return copy.deepcopy(block, {id(block.get_submodule(name)): layer for name, layer in layers.items()})
