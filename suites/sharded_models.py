"""Llama-like models of any size with random bfloat16 weights in shards, written without ever being whole in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig

from suites.small_models import byte_tokenizer

HEAD: Final = 64
"""Width of an attention head; there are half as many keys and values as queries."""
INITIAL: Final = 0.02
"""Standard deviation of the weights."""


@dataclass(frozen=True)
class ShardedModel:
    """A model folder, its parameters, and the bytes of its shards."""

    folder: Path
    parameters: int
    shards: tuple[int, ...]

    @property
    def stored(self) -> int:
        """Bytes of all shards."""
        return sum(self.shards)


def save_sharded_llama(folder: Path, width: int, layers: int, shard_bytes: int) -> ShardedModel:
    """Write a model to the new folder `folder`, in shards of at most `shard_bytes` (one tensor may have more)."""
    folder.mkdir(parents=True)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=max(1, width // HEAD // 2),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=256,
        eos_token_id=256,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)
    homes: dict[str, str] = {}
    parameters = 0
    shards = list(_shards(_shapes(config), shard_bytes))
    for number, shapes in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file({key: _drawn(shape, generator) for key, shape in shapes.items()}, folder / name, {"format": "pt"})
        homes |= dict.fromkeys(shapes, name)
        parameters += sum(torch.Size(shape).numel() for shape in shapes.values())
    index = {"metadata": {"total_size": 2 * parameters}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return ShardedModel(folder, parameters, tuple(path.stat().st_size for path in folder.glob("*.safetensors")))


def _shapes(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all parameters, in the model's order."""
    width, inner = config.hidden_size, config.intermediate_size
    narrow = width * config.num_key_value_heads // config.num_attention_heads
    yield "model.embed_tokens.weight", (config.vocab_size, width)
    for layer in range(config.num_hidden_layers):
        block = f"model.layers.{layer}"
        for name, rows in (("q", width), ("k", narrow), ("v", narrow), ("o", width)):
            yield f"{block}.self_attn.{name}_proj.weight", (rows, width)
        yield f"{block}.mlp.gate_proj.weight", (inner, width)
        yield f"{block}.mlp.up_proj.weight", (inner, width)
        yield f"{block}.mlp.down_proj.weight", (width, inner)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{block}.{norm}.weight", (width,)
    yield "model.norm.weight", (width,)


def _shards(shapes: Iterator[tuple[str, tuple[int, ...]]], most: int) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes:
        taken = 2 * torch.Size(shape).numel()
        if shard and size + taken > most:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += taken
    yield shard


def _drawn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Normal numbers; around one for norms."""
    values = torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, INITIAL, generator=generator)
    return values + 1 if len(shape) == 1 else values
