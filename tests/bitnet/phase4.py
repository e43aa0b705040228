"""Phase 4 on small models that have learned a little, and on short texts."""

import copy
import functools
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bitnet import delivery
from bitnet.artifacts import save_packed
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.huggingface import quiet
from bitnet.outcome import Outcome
from bitnet.phase_controller import run_phase4
from bitnet.result import Phase4Result
from bitnet.verify import verify
from tests.bitnet.small_models import small_model, small_tokenizer

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog", "lay", "by", "log", "while", "it", "rained", "all", "day")

#: Quick, and the training of recovery shows.
SETTINGS = {
    "calibration_samples": 40,
    "calibration_tokens": 16,
    "context_length": 64,
    "evaluation_tokens": 640,
    "fine_tune_steps": 6,
    "fine_tune_lr": 3e-3,
    "warmup_steps": 2,
}
#: Limits that any model keeps that is not broken.
LENIENT = {"compression_target": 1.0, "max_accuracy_drop": 1.0}


@dataclass(frozen=True)
class Finished:
    """A run: its output folder, its result, the measurements behind it, the configuration that it was given, and a copy
    of the model that it wrote, of which it keeps nothing (None of a streamed run).
    """

    out: Path
    result: Phase4Result
    outcome: Outcome
    config: Phase4Config
    written: CompressedModel | None


def sentences(count, seed):
    """So many random sentences; those of two seeds differ."""
    generator = random.Random(seed)
    return "".join(f"{seed}: {' '.join(generator.choices(WORDS, k=8))}.\n" for _ in range(count))


@functools.cache
def trained_model(architecture):
    """A small model of any supported architecture after some steps on sentences like those of the texts."""
    model = small_model(architecture)
    tokens = torch.tensor(small_tokenizer().encode(sentences(80, 7)))[: 24 * 64].reshape(24, 64)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    return model


def write_model(folder, architecture="llama", model=None):
    """A model, by default a trained one, with its tokenizer as a Hugging Face folder."""
    with quiet():
        (model or trained_model(architecture)).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def write_texts(folder):
    """A calibration and an evaluation text in `folder`, as settings."""
    texts = {"calibration_text": folder / "calibration.txt", "evaluation_text": folder / "evaluation.txt"}
    for seed, path in enumerate(texts.values()):
        path.write_text(sentences(40, seed))
    return texts


def finish(model, out, fresh_process=False, **settings):
    """Run Phase 4; unless in a `fresh_process`, the outputs are verified in this one, which takes seconds less."""
    config = Phase4Config(**{**SETTINGS, **settings})
    kept, written = [], []

    def keep(**parts):
        kept.append(Outcome(**parts))
        return kept[0]

    def save(packed, *places):
        written.append(copy.deepcopy(packed))
        save_packed(packed, *places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "Outcome", keep)
        patch.setattr(delivery, "save_packed", save)
        if not fresh_process:
            patch.setattr(delivery, "verify_in_fresh_process", verify)
        result = run_phase4(str(model), out, config, progress=False)
    return Finished(out, result, kept[0], config, written[0] if written else None)
