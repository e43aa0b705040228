"""Subjects that decode what they packed, through a model in transformers; each has at most one defect."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM
from typing_extensions import override

from harness.mutants.reference.folders import FolderSubject
from harness.opponents.products import dense
from harness.subject import QuantizedWeight


class Decoder:
    """A model in transformers and the tokens that it has read; it reads them all anew each time."""

    backend = "made up"

    def __init__(self, model: Any, defect: str) -> None:
        self.model, self.defect = model, defect
        self.seen: list[int] = []
        if defect in DAMAGE:
            DAMAGE[defect](model.model.layers[0])

    def reset(self) -> None:
        """Forget what was read."""
        self.seen = []

    def forward(self, tokens: list[int]) -> torch.Tensor:
        """The outputs."""
        logits = self.logits(tokens)[-1]
        return torch.full_like(logits, torch.nan) if self.defect == "logits that are not finite" else logits

    @torch.no_grad()
    def logits(self, tokens: list[int]) -> torch.Tensor:
        """The logits behind each token."""
        size = self.model.config.vocab_size
        if self.defect == "tokens not checked":
            tokens = [max(0, min(token, size - 1)) for token in tokens] or [0]
        if not tokens or min(tokens) < 0 or max(tokens) >= size:
            raise ValueError("no such token")
        if self.defect == "sequence forgotten":
            self.seen = []
        self.seen += tokens
        found: torch.Tensor = self.model(torch.tensor([self.seen])).logits[0, -len(tokens) :]
        if self.defect == "predictions a little sharper":
            found = found * 1.1
        return found.flip(1) if self.defect == "another model" else found

    @property
    def layers(self) -> int:
        """How many there are."""
        count: int = self.model.config.num_hidden_layers
        return count - 1 if self.defect == "a layer that is not counted" else count

    @torch.no_grad()
    def embed(self, tokens: Sequence[int]) -> torch.Tensor:
        """See `harness.subject.RunsLayers`."""
        found: torch.Tensor = self.model.model.embed_tokens(torch.tensor(tokens))
        return found

    @torch.no_grad()
    def layer(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """See `harness.subject.RunsLayers`."""
        inner, positions = self.model.model, torch.arange(len(hidden))[None]
        angles = inner.rotary_emb(hidden[None], positions)
        found: Any = inner.layers[index](hidden[None], position_ids=positions, position_embeddings=angles)
        made: torch.Tensor = (found if isinstance(found, torch.Tensor) else found[0])[0]
        if self.defect == "one token lost":
            made[-1] = 0
        return made

    @torch.no_grad()
    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `harness.subject.RunsLayers`."""
        found: torch.Tensor = self.model.lm_head(self.model.model.norm(hidden))
        return found


def turn_queries(layer: Any) -> None:
    """Rotate the queries of a layer as if they stood one position further on."""
    attention = layer.self_attn
    half = attention.head_dim // 2
    angles = 10_000.0 ** -(torch.arange(half) / half)

    def turn(_module: object, _given: object, queries: torch.Tensor) -> torch.Tensor:
        left, right = queries.view(*queries.shape[:-1], -1, 2, half).unbind(-2)
        turned = left * angles.cos() - right * angles.sin(), right * angles.cos() + left * angles.sin()
        return torch.stack(turned, -2).flatten(-3)

    attention.q_proj.register_forward_hook(turn)


def widen_norm(layer: Any) -> None:
    """A hundred times the epsilon in one norm."""
    layer.post_attention_layernorm.variance_epsilon *= 100


def enlarge_scale(layer: Any) -> None:
    """One weight larger by a percent."""
    layer.mlp.down_proj.weight.data *= 1.01


DAMAGE: Mapping[str, Callable[[Any], None]] = {
    "queries a position too far": turn_queries,
    "another epsilon in one norm": widen_norm,
    "one scale off by a percent": enlarge_scale,
}
"""What is done to the first layer."""


class DecodingSubject(FolderSubject):
    """Decodes the packed artefact of a compression, and writes packed artefacts of given weights."""

    def open_decoder(self, path: Path) -> Decoder:
        """See `harness.subject.DecodesPacked`."""
        if (path / "given.safetensors").is_file():
            model = LlamaForCausalLM(LlamaConfig(**json.loads((path / "config.json").read_text())))
            model.load_state_dict(load_file(path / "given.safetensors"), strict=False)
            return Decoder(model.eval(), self.defect)
        if self.defect != "damage not noticed" or not path.is_dir():
            self.quantized_weights(path)
        source = path.parent / "plain"
        if not source.is_dir() and self.defect == "damage not noticed":
            return Decoder(None, self.defect)
        if not source.is_dir():
            raise ValueError("not a packed folder")
        return Decoder(self.load_packed(path)[0], self.defect)

    @override
    def quantized_weights(self, path: Path) -> dict[str, QuantizedWeight]:
        try:
            return super().quantized_weights(path)
        except Exception as error:
            raise ValueError("a damaged file") from error

    def write_packed(self, config: Mapping[str, Any], weights: Any, out: Path) -> None:
        """See `harness.subject.WritesPacked`."""
        out.mkdir()
        with torch.device("meta"):
            parameters = dict(LlamaForCausalLM(LlamaConfig(**config)).named_parameters())
        tensors = {}
        for name, parameter in parameters.items():
            layer, shape = name.removesuffix(".weight"), tuple(parameter.shape)
            if len(shape) == 1:
                tensors[name] = weights.vector(layer, shape[0])
            elif layer.endswith("_proj"):
                tensors[name] = dense(weights.ternary(layer, shape))
            else:
                tensors[name] = weights.table(layer, shape)
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, out / "given.safetensors")
        (out / "config.json").write_text(json.dumps(dict(config)))
