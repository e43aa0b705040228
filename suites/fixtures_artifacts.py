"""Compressed models: each audited model goes through the subject once per session, and its artefacts are loaded once.

A check that asks for ``artifacts`` runs once per audited model. Files stay until the session ends; what was loaded from
them is let go with the last check of a model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from harness.artefacts import HoldsArtefacts
from harness.evidence import Profile
from harness.oracles.architecture import matrix
from harness.subject import CompressesModels, CompressionOutcome, QuantizedWeight, Subject, require
from harness.texts import held_out_excerpt, held_out_text
from suites.fixtures_models import ReferenceModel
from suites.stored_weights import layers_of, preserved_parameters, stored_weight, value_at

Compress = Callable[..., CompressionOutcome]

EVALUATION_CHARACTERS = 12_000
SPARING_CHARACTERS = 3_000
UNSEEN_CHARACTERS = 6_000
SHORT_CHARACTERS = 1_000
SPARING = {"calibration_samples": "16", "compensation": "none", "fine_tune_steps": "0"}
"""What the quick profile asks of a large model: little calibration, no compensation and no recovery. Everything else is
the default."""


@dataclass(frozen=True)
class Artifacts(HoldsArtefacts):
    """A compressed model: what it was, what it was compressed with, and the two artefacts, loaded when asked for.

    ``evaluation_text`` is the one that the subject reports on; ``unseen_text`` is held out from it, too.
    """

    subject: Subject
    reference: ReferenceModel
    outcome: CompressionOutcome
    overrides: Mapping[str, str]
    evaluation_text: str
    unseen_text: str

    @property
    def artefacts(self) -> Mapping[str, Path]:
        """Both artefacts by the model's name."""
        outcome, name = self.outcome, self.reference.name
        return {f"{name} packed": outcome.packed, f"{name} dequantized": outcome.dequantized}

    @property
    def recovered(self) -> bool:
        """Whether the subject was free to fine-tune, so that preserved layers may have changed."""
        return self.overrides.get("fine_tune_steps") != "0"

    @cached_property
    def _reloaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer = require(self.subject, CompressesModels).load_packed(self.outcome.packed)
        return model.eval(), tokenizer

    @property
    def packed(self) -> PreTrainedModel:
        """The packed artefact as the subject reloads it. Checks must not change it."""
        return self._reloaded[0]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The packed artefact's tokenizer."""
        return self._reloaded[1]

    @cached_property
    def dequantized(self) -> PreTrainedModel:
        """The FP16 artefact by plain transformers, its values widened to float32. Checks must not change it."""
        return AutoModelForCausalLM.from_pretrained(self.outcome.dequantized, dtype=torch.float32).eval()

    @cached_property
    def weights(self) -> Mapping[str, QuantizedWeight]:
        """The codes and scales that the packed artefact stores, by layer."""
        return require(self.subject, CompressesModels).quantized_weights(self.outcome.packed)

    def trainable(self) -> nn.Module:
        """The trainable form of the packed artefact, loaded anew and in evaluation mode: free to be damaged."""
        return require(self.subject, CompressesModels).load_trainable(self.outcome.packed).eval()

    def plain_form(self) -> PreTrainedModel:
        """Plain transformers modules with the values of the packed artefact, which FP16 has not rounded; made anew."""
        model = AutoModelForCausalLM.from_pretrained(self.outcome.dequantized, dtype=torch.float32).eval()
        with torch.no_grad():
            for name, layer in layers_of(model, self.weights).items():
                matrix(layer).copy_(stored_weight(self.subject, self.weights[name]))
            for name, value in preserved_parameters(model, self.weights).items():
                value.copy_(value_at(self.packed, name))
        return model

    def release(self) -> None:
        """Let go of what was loaded; it is loaded again when it is asked for again."""
        for name in ("_reloaded", "dequantized", "weights"):
            self.__dict__.pop(name, None)


@pytest.fixture(scope="session")
def compress(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compress]:
    """Let the subject compress a model folder into a temporary folder, which is removed after the session."""
    run = require(subject, CompressesModels).compress
    root = tmp_path_factory.mktemp("compressed")

    def compress_into(name: str, folder: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        return run(folder, root / name, overrides)

    yield compress_into
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def evaluation_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short held-out text in a file, for compressions that are not about quality."""
    file = tmp_path_factory.mktemp("texts") / "short.txt"
    file.write_bytes(held_out_excerpt(SHORT_CHARACTERS).encode())
    return file


@pytest.fixture(scope="session")
def compress_reference(
    subject: Subject, compress: Compress, profile: Profile, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[ReferenceModel], Artifacts]:
    """Compress a reference model with settings that fit the profile; the same artefacts for the same model."""
    done: dict[Path, Artifacts] = {}

    def run(reference: ReferenceModel) -> Artifacts:
        if reference.folder not in done:
            sparing = profile == "quick" and reference.large
            text = held_out_excerpt(SPARING_CHARACTERS if sparing else EVALUATION_CHARACTERS)
            file = tmp_path_factory.mktemp("texts") / "evaluation.txt"
            file.write_bytes(text.encode())
            overrides = {"evaluation_text": str(file), "seed": str(seed), **(SPARING if sparing else {})}
            done[reference.folder] = Artifacts(
                subject=subject,
                reference=reference,
                outcome=compress(f"{len(done)}-{reference.name}", reference.folder, overrides),
                overrides=overrides,
                evaluation_text=text,
                unseen_text=held_out_text()[EVALUATION_CHARACTERS:][:UNSEEN_CHARACTERS],
            )
        return done[reference.folder]

    return run


@pytest.fixture(scope="session")
def artifacts(
    reference: ReferenceModel, compress_reference: Callable[[ReferenceModel], Artifacts]
) -> Iterator[Artifacts]:
    """The compressed form of the audited model that this check runs on."""
    made = compress_reference(reference)
    yield made
    made.release()
