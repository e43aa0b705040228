"""The architectures that a compressor of language models has to know, as random models of two blocks, made on the spot.

Between them they have separate and fused query-key-value projections, linear layers that keep their weight as [in, out]
(GPT-2), projections outside the blocks (OPT), biases, learnt and rotary positions, tied and untied heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from suites.small_models import byte_tokenizer

_TOKENS: Mapping[str, Any] = {"vocab_size": 257, "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": None}
_LLAMA_LIKE: Mapping[str, Any] = {
    **_TOKENS,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_CONFIGS: Mapping[str, Callable[[bool], PretrainedConfig]] = MappingProxyType(
    {
        "llama": lambda tied: LlamaConfig(**_LLAMA_LIKE, tie_word_embeddings=tied),
        "qwen2": lambda tied: Qwen2Config(**_LLAMA_LIKE, tie_word_embeddings=tied),
        "gpt2": lambda tied: GPT2Config(
            **_TOKENS, n_embd=32, n_layer=2, n_head=4, n_positions=512, tie_word_embeddings=tied
        ),
        "gpt_neox": lambda tied: GPTNeoXConfig(
            **_TOKENS,
            hidden_size=32,
            intermediate_size=44,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
        ),
        "opt": lambda tied: OPTConfig(
            **_TOKENS,
            hidden_size=32,
            ffn_dim=44,
            num_hidden_layers=2,
            num_attention_heads=4,
            word_embed_proj_dim=16,
            max_position_embeddings=512,
            dropout=0.0,
            tie_word_embeddings=tied,
        ),
    }
)
ARCHITECTURES = tuple(_CONFIGS)


def small_model(architecture: str, tied: bool) -> PreTrainedModel:
    """A random float32 model in evaluation mode.

    Every parameter is moved away from its initial value: a norm that is all ones, or a bias that is all zeros, would
    hide that it was lost.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_CONFIGS[architecture](tied), dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save_small_model(folder: Path, architecture: str, tied: bool) -> Path:
    """Write such a model with a byte-level tokenizer to ``folder`` (made if missing)."""
    small_model(architecture, tied).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
