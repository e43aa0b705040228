"""Models that are made for export: small ones with layers of every width, and what their packed weights stand for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from jaxtyping import Float32, Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from harness.oracles.architecture import matrix
from harness.subject import CompressesModels, NotApplicable, QuantizedWeight, Subject, require
from harness.subject_interop import ExportsModels
from harness.texts import PROSE
from suites.stored_weights import layers_of, preserved_parameters, stored_weight, value_at

WIDTH, FEED_FORWARD = 256, 288
"""Rows of 256 weights fit ggml's ternary blocks; rows of 288 only blocks of 32."""
START, END = "<s>", "</s>"


@dataclass(frozen=True)
class Packed:
    """A packed artefact that was made for a target, and what the subject itself loads from it."""

    subject: Subject
    original: Path
    folder: Path

    @cached_property
    def model(self) -> PreTrainedModel:
        """As the subject runs it."""
        return require(self.subject, CompressesModels).load_packed(self.folder)[0].eval()

    @cached_property
    def weights(self) -> dict[str, QuantizedWeight]:
        """Its codes and scales by layer."""
        return dict(require(self.subject, CompressesModels).quantized_weights(self.folder))

    def stored(self, name: str) -> Float32[Tensor, "out in"]:
        """The weight of a quantized layer."""
        return stored_weight(self.subject, self.weights[name])

    @cached_property
    def plain(self) -> PreTrainedModel:
        """Plain modules with the stored values, whose activations stay in floating point."""
        model = AutoModelForCausalLM.from_pretrained(self.original, dtype=torch.float32).eval()
        with torch.no_grad():
            for name, layer in layers_of(model, self.weights).items():
                matrix(layer).copy_(self.stored(name))
            for name, value in preserved_parameters(model, self.weights).items():
                value.copy_(value_at(self.model, name))
        return copy.deepcopy(model)


def pack_for(subject: Subject, folder: Path, target: str, out: Path) -> Packed:
    """Pack a folder for a target; not applicable where the subject does not have it."""
    exporter = exporter_of(subject, target)
    return Packed(subject, folder, exporter.pack_for_export(folder, target, out))


def exporter_of(subject: Subject, target: str) -> ExportsModels:
    """The subject as an exporter to a target that it has."""
    exporter = require(subject, ExportsModels)
    if target not in exporter.export_targets:
        raise NotApplicable(f"{subject.declaration.name} does not export to {target}")
    return exporter


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `save_wide_model`."""
    return save_wide_model(tmp_path_factory.mktemp("wide") / "model")


def save_wide_model(folder: Path) -> Path:
    """A random Llama whose queries share keys and values, with a byte-level tokenizer that merges."""
    tokenizer = merging_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.05,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        model.model.embed_tokens.weight.data.mul_(4)  # predictions that differ clearly between tokens
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Two special tokens, all bytes and some merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[START, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([PROSE], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, clean_up_tokenization_spaces=False
    )


@pytest.fixture(scope="session")
def packed_for(subject: Subject, wide_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Packed]:
    """The wide model packed for a target, once a session."""
    done: dict[str, Packed] = {}

    def packed(target: str) -> Packed:
        if target not in done:
            done[target] = pack_for(subject, wide_model, target, tmp_path_factory.mktemp("packed") / "packed")
        return done[target]

    return packed


@torch.no_grad()
def logits_of(model: PreTrainedModel, tokens: Int64[Tensor, "batch length"]) -> Float32[Tensor, "batch length v"]:
    """In float32."""
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits.float()


def centred(logits: Float32[Tensor, "... v"]) -> Float32[Tensor, "... v"]:
    """Without what is common to all tokens of a position, which changes no probability."""
    return logits - logits.mean(-1, keepdim=True)


def spread(logits: Float32[Tensor, "... v"]) -> float:
    """Root mean square of the centred logits."""
    return float(centred(logits).double().square().mean().sqrt())
