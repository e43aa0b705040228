"""What a subject may offer to its surroundings: handoffs to other phases, a tracker of runs, a registry of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from harness.subject_records import JSON, CompressionOutcome, RegisteredVersion


@runtime_checkable
class HandsOver(Protocol):
    """Checks the model that Phase 3 hands in, and the output that it hands on to Phase 5, each with its manifest."""

    @property
    def manifest_files(self) -> tuple[str, str]:
        """Names of the two manifests: JSON files in the folder that comes in and in the one that goes out."""
        ...

    def check_phase3(self, folder: Path) -> Mapping[str, JSON]:
        """The manifest of a Hugging Face folder, made up and marked `synthesised` where it has none.

        It has model_path, tokenizer_sha256, vocabulary_size, thinking_tokens (None: none declared),
        strategy_accuracies, anti_theater and metrics; raises naming the one that is missing or corrupt.
        """
        ...

    def check_phase5(self, out: Path) -> Mapping[str, JSON]:
        """The manifest of the output of a compression, found true; raises naming the field or the file that is not.

        It has run_id, files (SHA-256 by path), rule, scales (a file, then words), metrics (by the audit's names), gates
        (each with name, measured, comparison, limit and passed), success, command and phase3.
        """
        ...


@runtime_checkable
class TracksRuns(Protocol):
    """Logs the metrics of a compression with Weights & Biases while it compresses."""

    def compress_tracked(
        self, model_folder: Path, out: Path, overrides: Mapping[str, str], server: str | None
    ) -> tuple[CompressionOutcome, Path]:
        """As `CompressesModels.compress`, and the `.wandb` file in which W&B has recorded the run.

        `server` is the URL of the server that is to get it, which may not answer (an account is not to be needed);
        None: nothing leaves the machine.
        """
        ...


@runtime_checkable
class RegistersModels(Protocol):
    """Keeps compressed models in a registry of its own making in a folder, or of an MLflow server."""

    def open_registry(self, folder: Path) -> ModelRegistry:
        """The registry in that folder, made if it is empty."""
        ...


class ModelRegistry(Protocol):
    """What a registry does; versions of a model count from 1, and every operation raises on what does not exist."""

    def push(self, out: Path, name: str, scorecard: Path | None = None) -> RegisteredVersion:
        """Register the output of a compression: as a new version, or none where the same one is there already."""
        ...

    def versions(self, name: str) -> Sequence[RegisteredVersion]:
        """All versions of a model."""
        ...

    def promote(self, name: str, version: int) -> None:
        """Mark a version as the one to use; raises where it missed a gate."""
        ...

    def fetch(self, name: str, version: int | None, out: Path) -> None:
        """Copy a version (None: the one that was promoted) to a new folder; raises where the registry is damaged."""
        ...
