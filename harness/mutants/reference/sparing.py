"""A subject whose command compresses a model in few bits, or does one thing wrong."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typing_extensions import override

from harness.mutants.reference.folders import FolderSubject
from harness.subject import QuantizedWeight

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = Path(__file__).with_name("sparing_command.py")


@dataclass(frozen=True)
class SparingSubject(FolderSubject):
    """Runs on the plain model that the packed one stands for."""

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start it."""
        return (sys.executable, str(COMMAND), self.defect)

    def sparing_words(self, one_plane: bool, recovered: bool) -> Sequence[str]:
        """See `harness.subject.SparesBits`."""
        return ("one" if one_plane else "few", "recovered" if recovered else "untrained")

    @override
    def quantized_weights(self, path: Path) -> dict[str, QuantizedWeight]:
        tensors = load_file(path / "model.safetensors")
        layers = [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]
        return {
            name: QuantizedWeight(_codes(tensors[f"{name}.codes"]), tensors[f"{name}.scale"].float()) for name in layers
        }

    @override
    def load_packed(self, path: Path) -> tuple[Any, Any]:
        return AutoModelForCausalLM.from_pretrained(path.parent / "plain").eval(), AutoTokenizer.from_pretrained(path)


def _codes(stored: torch.Tensor) -> torch.Tensor:
    if stored.dtype == torch.int8:
        return stored
    parts = torch.stack([(stored >> shift) & 3 for shift in (0, 2, 4, 6)], dim=2)
    return (parts.to(torch.int8) - 1).flatten(1)
