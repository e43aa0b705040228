"""Races of whole models: who continues the same prompts, from which files, and that equal weights give equal logits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from harness.artefacts import HoldsArtefacts
from harness.opponents import OpponentAbsent, llama_cpp, require_llama_cpp
from harness.opponents.bitlinear import with_bitlinear
from harness.opponents.decoders import GenerateArm, SubjectArm, TextArm
from harness.opponents.gguf_files import llama_shapes, write_float16, write_ternary
from harness.opponents.weights import SIZES, AbsmeanWeights, RandomWeights
from harness.races import Entry, Finish, Race, run
from harness.statistics import MINIMUM_ROUNDS, Arm
from harness.subject import JSON, DecodesPacked, Subject, WritesPacked, require

PROMPT_TOKENS: Final = 4
PREFILL_TOKENS: Final = 128
COMPARED_TOKENS: Final = 16
SLOW_TOKENS: Final = 2
FP32: Final = "transformers float32"
BF16: Final = "transformers bfloat16"
BITLINEAR: Final = "transformers BitLinear"
LLAMA_F16: Final = "llama.cpp F16"
LLAMA_Q4: Final = "llama.cpp Q4_0"
LLAMA_TERNARY: Final = "llama.cpp TQ2_0"
SAME: Final = 0.8
"""Correlation of the logits of two arms that hold the same weights; they differ in how they round activations. Arms of
different weights stay near 0."""

ThingT = TypeVar("ThingT")


@dataclass(frozen=True)
class Cast(HoldsArtefacts):
    """The arms of one model, the subject's first, with who is absent; `parameters` counts all weights; `packed` is the
    subject's artefact."""

    title: str
    parameters: int
    arms: tuple[TextArm, ...]
    absent: tuple[str, ...]
    prompt: tuple[int, ...]
    packed: Path
    slow: tuple[TextArm, ...] = ()

    @property
    def artefacts(self) -> Mapping[str, Path]:
        """The packed form that the subject runs."""
        return {f"{self.title} packed for the race": self.packed}

    def decoding(self, count: int, rounds: int, seed: int) -> Finish:
        """Continue a short prompt by so many tokens."""
        prompt = self.prompt[:PROMPT_TOKENS]
        title = f"{self.title}, {count} tokens after a prompt of {len(prompt)}"
        return self._race(title, count, lambda arm: lambda: arm.greedy(prompt, count), rounds, seed)

    def slow_decoding(self, seed: int) -> Finish:
        """The slow arms on a race of their own, of few tokens and few rounds."""
        alone = replace(self, title=f"{self.title}, slow arms", arms=(self.arms[0], *self.slow))
        return alone.decoding(SLOW_TOKENS, MINIMUM_ROUNDS, seed)

    def prefill(self, rounds: int, seed: int) -> Finish:
        """Read one prompt."""
        prompt = self.prompt[:PREFILL_TOKENS]
        title = f"{self.title}, a prompt of {len(prompt)} tokens"
        return self._race(title, len(prompt), lambda arm: lambda: arm.prefill(prompt), rounds, seed)

    def _race(
        self, title: str, tokens: int, work: Callable[[TextArm], Callable[[], object]], rounds: int, seed: int
    ) -> Finish:
        entries = [Entry(Arm(arm.name, work(arm), {"threads": "1", "batch": "1"}), tokens) for arm in self.arms]
        return run(Race(title, "tokens/s", entries[0], tuple(entries[1:]), self.absent), rounds, seed)

    def close(self) -> None:
        """Free what the arms hold outside Python."""
        for arm in self.arms:
            getattr(arm, "close", lambda: None)()


def real_cast(subject: Subject, model: Any, source: Path, tokens: Sequence[int], folder: Path, everyone: bool) -> Cast:
    """A real model: the subject and llama.cpp on its ternary form, the 16-bit and 32-bit arms on its own weights.

    `everyone`: also the arms that no target names.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    weights = AbsmeanWeights(model)
    absent: list[str] = []
    packed = folder / "packed"
    arms: list[TextArm] = [subject_arm(subject, config, weights, packed), GenerateArm(model, FP32)]
    slow: list[TextArm] = []
    if everyone:
        arms.append(GenerateArm(_in_bfloat16(source), BF16))
        slow = _present(lambda: [GenerateArm(with_bitlinear(model, weights), BITLINEAR)], absent)
    arms += _present(lambda: _llama_arms(config, weights, folder), absent)
    prompt = tuple(tokens)[:PREFILL_TOKENS]
    assert_same_weights(arms, prompt[:COMPARED_TOKENS])
    title = "-".join(source.name.split("-")[:2])
    return Cast(title, model.num_parameters(), tuple(arms), tuple(absent), prompt, packed, tuple(slow))


def synthetic_cast(subject: Subject, size: str, folder: Path) -> Cast:
    """A model of random codes, the same ones for the subject and for llama.cpp; raises OpponentAbsent without it."""
    require_llama_cpp()
    config, weights, packed = SIZES[size], RandomWeights(), folder / "packed"
    ours = subject_arm(subject, config, weights, packed)
    write_ternary(config, weights, folder / "ternary.gguf")
    arms = (ours, llama_cpp.LlamaCppArm(folder / "ternary.gguf", LLAMA_TERNARY))
    prompt = tuple(range(100, 100 + PREFILL_TOKENS))
    assert_same_weights(arms, prompt[:COMPARED_TOKENS])
    return Cast(f"synthetic {size}", count_parameters(config), arms, (), prompt, packed)


def subject_arm(subject: Subject, config: Mapping[str, JSON], weights: Any, out: Path) -> SubjectArm:
    """The subject's decoder on a packed artefact that it wrote of these weights."""
    require(subject, WritesPacked).write_packed(config, weights, out)
    return SubjectArm(require(subject, DecodesPacked).open_decoder(out))


def assert_same_weights(arms: Sequence[TextArm], tokens: Sequence[int]) -> None:
    """The subject and llama.cpp's ternary form, where it takes part, predict alike before they are timed."""
    logits = {arm.name: arm.logits(tokens) for arm in (arms[0], *(each for each in arms if each.name == LLAMA_TERNARY))}
    for name, found in logits.items():
        assert torch.isfinite(found).all(), f"{name} gives logits that are not finite"
        alike = correlation(found, logits[arms[0].name])
        assert alike >= SAME, f"{name} and {arms[0].name} hold the same weights, but their logits correlate by {alike}"


def correlation(one: Tensor, other: Tensor) -> float:
    """Of all entries of two tensors of one shape."""
    return float(torch.corrcoef(torch.stack([one.flatten().double(), other.flatten().double()]))[0, 1])


def count_parameters(config: Mapping[str, JSON]) -> int:
    """Weights of a Llama model, from its configuration."""
    return sum(torch.Size(shape).numel() for shape in llama_shapes(config)[1].values())


def _in_bfloat16(source: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).eval()


def _llama_arms(config: Mapping[str, JSON], weights: AbsmeanWeights, folder: Path) -> list[TextArm]:
    require_llama_cpp()
    files = {name: folder / f"{name}.gguf" for name in ("f16", "ternary-f16", "q4_0", "tq2_0")}
    write_float16(config, weights.original, files["f16"])
    write_float16(config, weights.dequantized, files["ternary-f16"])
    llama_cpp.quantize(files["f16"], files["q4_0"], "Q4_0")
    llama_cpp.quantize(files["ternary-f16"], files["tq2_0"], "TQ2_0")
    arms = {LLAMA_F16: "f16", LLAMA_Q4: "q4_0", LLAMA_TERNARY: "tq2_0"}
    return [llama_cpp.LlamaCppArm(files[file], name) for name, file in arms.items()]


def _present(make: Callable[[], list[TextArm]], absent: list[str]) -> list[TextArm]:
    try:
        return make()
    except OpponentAbsent as reason:
        absent.append(str(reason))
        return []
