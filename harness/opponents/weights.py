"""Ternary weights that two implementations are both given, to do the same work: a real model's, and random ones.

Random ones make models of sizes that would take a download. How long a product takes does not depend on the codes, so
one draw a shape is enough: layers of one shape hold the same rows, shifted by the number of the layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.opponents.products import dense
from harness.subject import JSON, QuantizedWeight

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8
    from torch import Tensor

_COMMON: Final[dict[str, JSON]] = {
    "vocab_size": 32_000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
}
SIZES: Final[Mapping[str, Mapping[str, JSON]]] = {
    "0.7B": _COMMON
    | {
        "hidden_size": 1536,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
    },
    "2B": _COMMON
    | {
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "num_hidden_layers": 30,
        "num_attention_heads": 20,
        "num_key_value_heads": 5,
    },
}
"""The shapes of 1bitLLM's bitnet_b1_58-large and Microsoft's BitNet b1.58 2B4T, with a vocabulary of 32,000."""

GAIN: Final = 0.3
"""Size of a layer's outputs for inputs of size 1: small enough for the residual stream to stay readable."""


@dataclass(frozen=True)
class RandomWeights:
    """Codes of -1, 0 and 1 at equal odds; the same seed gives the same model."""

    seed: int = 0
    _drawn: dict[tuple[int, int], Int8[Tensor, "out in"]] = field(default_factory=dict)

    def ternary(self, layer: str, shape: tuple[int, int]) -> QuantizedWeight:
        """As `harness.subject.GivenWeights.ternary`."""
        if shape not in self._drawn:
            generator = torch.Generator().manual_seed(self.seed + len(self._drawn))
            self._drawn[shape] = torch.randint(-1, 2, shape, dtype=torch.int8, generator=generator)
        shift = sum(map(int, re.findall(r"\d+", layer))) * 7 + sum(layer.encode())
        scale = GAIN / (shape[1] * 2 / 3) ** 0.5
        # A scale that float16 holds exactly is the same in every format.
        return QuantizedWeight(self._drawn[shape].roll(shift, 0), torch.tensor([[scale]]).half().float())

    def table(self, layer: str, shape: tuple[int, int]) -> Float32[Tensor, "rows columns"]:
        """As `harness.subject.GivenWeights.table`: normal, of variance 1."""
        generator = torch.Generator().manual_seed(self.seed + sum(layer.encode()))
        return torch.empty(shape).normal_(generator=generator)

    def vector(self, layer: str, size: int) -> Float32[Tensor, " size"]:
        """As `harness.subject.GivenWeights.vector`: one."""
        del layer
        return torch.ones(size)


@dataclass(frozen=True)
class AbsmeanWeights:
    """The layers of a model in transformers by the plainest ternary rule: codes round(W / mean|W|), the mean as scale.

    Source of the rule: "The Era of 1-bit LLMs" (2402.17764). Without calibration or training such a model writes no
    sense; it takes as long as one that does.
    """

    model: Any

    def ternary(self, layer: str, shape: tuple[int, int]) -> QuantizedWeight:
        """As `harness.subject.GivenWeights.ternary`; a scale that float16 holds exactly is the same in every format."""
        del shape
        weight = self.original(layer)
        scale = weight.abs().mean().half().float()
        codes = (weight / scale).round().clamp(-1, 1).to(torch.int8)
        return QuantizedWeight(codes, scale.view(1, 1))

    def table(self, layer: str, shape: tuple[int, int]) -> Float32[Tensor, "rows columns"]:
        """As `harness.subject.GivenWeights.table`: the model's own."""
        del shape
        return self.original(layer)

    def vector(self, layer: str, size: int) -> Float32[Tensor, " size"]:
        """As `harness.subject.GivenWeights.vector`: the model's own."""
        del size
        return self.original(layer)

    def dequantized(self, layer: str) -> Tensor:
        """The weight of any layer, that of a projection as its codes and scale give it."""
        return dense(self.ternary(layer, (0, 0))) if layer.endswith("_proj") else self.original(layer)

    def original(self, layer: str) -> Tensor:
        """The weight of any layer as the model has it, in float32."""
        weight: Tensor = self.model.get_submodule(layer).weight
        return weight.detach().float()
