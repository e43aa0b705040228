"""Random two-layer models of every supported architecture and a small tokenizer, made on the spot."""

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.layer_store import TernaryLayer

VOCABULARY = 288
COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
LLAMA_LIKE = {
    **COMMON,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}

CONFIGS = {
    "llama": lambda: LlamaConfig(**LLAMA_LIKE, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**LLAMA_LIKE, tie_word_embeddings=False),
    "gpt2": lambda: GPT2Config(**COMMON, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    "gpt_neox": lambda: GPTNeoXConfig(
        **COMMON,
        hidden_size=32,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=False,
    ),
    "opt": lambda: OPTConfig(
        **COMMON,
        hidden_size=32,
        ffn_dim=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=16,
        max_position_embeddings=128,
        dropout=0.0,
    ),
}
ARCHITECTURES = tuple(CONFIGS)


def small_model(architecture: str, seed: int = 0) -> PreTrainedModel:
    """A random float32 model in eval mode, with biases and norms that are not the identity."""
    return model_from(CONFIGS[architecture](), seed)


def model_from(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def packed_model(architecture: str = "llama", **settings: object) -> CompressedModel:
    """A small model in packed form, under settings that differ from the defaults by `settings`."""
    config = Phase4Config(**settings).resolved(1000)
    return CompressedModel.from_model(small_model(architecture), config).packed()


@functools.cache
def small_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: two special tokens, 256 bytes and 30 merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog sat on the log " * 4], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def ternary_layers(weights):
    """Planes by layer name as compensation finds them, with errors that nothing reads."""
    return {name: TernaryLayer.of(weight, torch.zeros(weight.codes.shape[1]), 0.0) for name, weight in weights.items()}
