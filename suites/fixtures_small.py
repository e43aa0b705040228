"""One small random model and its compression: what the checks of the process run on, made once a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.subject import CompressesModels, CompressionOutcome, Subject, require
from harness.texts import PROSE, held_out_excerpt
from suites.small_models import save_random_llama

CALIBRATION_CHARACTERS = 6_000
NO_RECOVERY = "1e9"
"""A trigger that no perplexity increase reaches."""


@dataclass(frozen=True)
class SmallFiles:
    """A small random model's folder and two texts that do not overlap."""

    model: Path
    calibration_text: Path
    evaluation_text: Path

    @property
    def overrides(self) -> Mapping[str, str]:
        """Settings with which nothing has to be done otherwise than asked: both texts, few samples, no recovery."""
        return {
            "calibration_text": str(self.calibration_text),
            "evaluation_text": str(self.evaluation_text),
            "calibration_samples": "8",
            "fine_tune_trigger": NO_RECOVERY,
        }


@dataclass(frozen=True)
class SmallCompression:
    """The small model compressed into the folder `out`."""

    out: Path
    outcome: CompressionOutcome


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallFiles:
    """The files, written once a session. Checks must not change them."""
    folder = tmp_path_factory.mktemp("small")
    calibration, evaluation = folder / "calibration.txt", folder / "evaluation.txt"
    calibration.write_bytes(held_out_excerpt(CALIBRATION_CHARACTERS).encode())
    evaluation.write_bytes(PROSE.encode())
    return SmallFiles(save_random_llama(folder / "model"), calibration, evaluation)


@pytest.fixture(scope="session")
def small_compression(
    subject: Subject, small: SmallFiles, tmp_path_factory: pytest.TempPathFactory
) -> SmallCompression:
    """The compression with `SmallFiles.overrides`, made once a session. Checks must not change it."""
    out = tmp_path_factory.mktemp("small-compressed") / "out"
    return SmallCompression(out, require(subject, CompressesModels).compress(small.model, out, small.overrides))
