"""The built-in model `tiny`: a small Llama trained within two minutes on text that ships with Python.

It is real enough to lose something when it is compressed (held-out perplexity about 22 in windows of 256 tokens and
27 in windows of 512) and small enough to be made wherever tests run. Everything that shapes it stands in `TinyRecipe`;
on one machine the same recipe gives the same weights, bit by bit.
"""

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout
from torch.optim import AdamW, Muon
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bitnet.huggingface import save_folder
from bitnet.mugrokfast import split_parameters
from bitnet.progress import terminal
from bitnet.text import training_text

START, END = "<s>", "</s>"


@dataclasses.dataclass(frozen=True)
class TinyRecipe:
    """Everything that decides what the trained weights are, but for the text and the version of torch.

    Learning rates are those of the first half; over the second half they fall linearly to zero.
    """

    vocabulary: int = 1024
    width: int = 128
    layers: int = 3
    feed_forward: int = 384
    heads: int = 2
    positions: int = 1024
    steps: int = 450
    batch: int = 8
    tokens: int = 256
    gap: int = 256
    """Positions that a window may skip, so that positions beyond `tokens` are learned without reading that far."""
    muon_lr: float = 0.02
    adamw_lr: float = 5e-3
    weight_decay: float = 0.1
    """Of the hidden matrices; with `dropout` it keeps a model that reads its text eight times from memorising it."""
    dropout: float = 0.1
    """Of what attention and feed-forward add to the residual stream."""
    warm_up: int = 10
    seed: int = 0
    threads: int = 1

    def key(self) -> str:
        """What the trained model is found by: a digest of the recipe, the text and the version of torch."""
        text = hashlib.sha256(training_text().encode()).hexdigest()
        parts = json.dumps([dataclasses.asdict(self), text, torch.__version__], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()[:12]


def train_tiny(recipe: TinyRecipe, folder: Path) -> None:
    """Train a tokenizer and a model and save both into the existing `folder`; tells on standard error how far it is.

    The caller's random state and number of threads are as before afterwards.
    """
    tokenizer = train_tokenizer(training_text(), recipe.vocabulary)
    tokens = torch.tensor(tokenizer.encode(training_text()), dtype=torch.int64)
    with _reproducible(recipe):
        model = train_model(recipe, tokens, tokenizer)
    save_folder(model, tokenizer, folder)


def train_tokenizer(text: str, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE: the tokens for start and end, the 256 bytes and merges, `vocabulary` tokens in all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, clean_up_tokenization_spaces=False
    )


def train_model(
    recipe: TinyRecipe, tokens: Int64[Tensor, "text"], tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """A float32 model in evaluation mode, trained on random windows of `tokens`."""
    model = LlamaForCausalLM(_architecture(recipe, tokenizer)).train()
    hidden, rest = split_parameters(model)
    optimizers = [
        Muon(hidden, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, momentum=0.95, nesterov=True),
        AdamW(rest, lr=recipe.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    with _dropout(model, recipe.dropout):
        for step in _shown(recipe.steps):
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * learning_rate(step, recipe)
            torch.autograd.backward(loss(model, _windows(tokens, recipe), _positions(recipe)))
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    return model.eval()


def loss(
    model: LlamaForCausalLM, windows: Int64[Tensor, "batch length"], positions: Int64[Tensor, "batch input"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) of every token of `windows` but the first of each."""
    output = model(input_ids=windows[:, :-1], position_ids=positions, use_cache=False)
    logits: Float[Tensor, "batch input vocabulary"] = output.logits
    return cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def learning_rate(step: int, recipe: TinyRecipe) -> float:
    """Factor of the learning rates: up over the warm-up, then 1, then down to 0 over the second half."""
    return min(1.0, (step + 1) / recipe.warm_up, 2 * (1 - step / recipe.steps))


def _architecture(recipe: TinyRecipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )


def _windows(tokens: Int64[Tensor, "text"], recipe: TinyRecipe) -> Int64[Tensor, "batch length"]:
    """Random windows of one token more than the model reads."""
    starts = torch.randint(len(tokens) - recipe.tokens, (recipe.batch, 1))
    return tokens[starts + torch.arange(recipe.tokens + 1)]


def _positions(recipe: TinyRecipe) -> Int64[Tensor, "batch input"]:
    """Consecutive positions with one gap in each window, of random place and length."""
    positions = torch.arange(recipe.tokens).expand(recipe.batch, -1)
    place = torch.randint(recipe.tokens, (recipe.batch, 1))
    length = torch.randint(recipe.gap + 1, (recipe.batch, 1))
    return positions + length * (positions >= place)


@contextlib.contextmanager
def _dropout(model: LlamaForCausalLM, probability: float) -> Iterator[None]:
    """Within the block the outputs of attention and feed-forward are dropped; Llama itself has no such setting."""
    outputs = [module for layer in model.model.layers for module in (layer.self_attn.o_proj, layer.mlp.down_proj)]
    handles = [module.register_forward_hook(lambda _, __, output: dropout(output, probability)) for module in outputs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _reproducible(recipe: TinyRecipe) -> Iterator[None]:
    """Seeded, with a fixed number of threads (sums are split by it); puts back what the caller had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _shown(steps: int) -> Iterator[int]:
    """Counts the steps; a bar on a terminal, one line elsewhere, so that a first-time user sees what takes so long."""
    text = "training the built-in model tiny (once, one to two minutes)"
    if not terminal().is_terminal:
        print(text, file=sys.stderr)
    yield from track(range(steps), text, console=terminal(), disable=not terminal().is_terminal)
