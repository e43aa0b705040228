"""Small random language models, written as Hugging Face folders in a second: subjects of checks that need no meaning.

They have the layout of a real model (blocks, tied head, a byte-level tokenizer) but random weights, so everything
that must hold for *every* model can be checked on them, and defects can be planted in them.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

PREFIX = "<|endoftext|>"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per UTF-8 byte and one prefix token (id 256): it can encode every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)} | {PREFIX: len(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=PREFIX, eos_token=PREFIX)


def random_llama(seed: int = 0, layers: int = 2, width: int = 32) -> LlamaForCausalLM:
    """A Llama with random weights in float32 and a tied head, for the tokens of :func:`byte_tokenizer`.

    Its weights are drawn wider than at the start of a training, so that its predictions differ clearly between tokens:
    a nearly uniform model would hide most errors in a perplexity.
    """
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=256,
        eos_token_id=256,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def save_random_llama(
    folder: Path,
    seed: int = 0,
    layers: int = 2,
    width: int = 32,
    change: Callable[[PreTrainedModel], None] | None = None,
) -> Path:
    """Write such a model with its tokenizer to ``folder`` (made if missing); ``change`` may plant a defect first."""
    model = random_llama(seed, layers, width)
    if change is not None:
        change(model)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
