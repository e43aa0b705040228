"""Subjects whose plain output the next phase trains on, damaged in at most one way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from typing_extensions import override

from harness.mutants.reference.folders import FolderSubject
from harness.subject import CompressionOutcome


@dataclass(frozen=True)
class TrainedOn(FolderSubject):
    """Hands over a folder to be trained on."""

    @override
    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        outcome = super().compress(model_folder, out, overrides)
        file = outcome.dequantized / "model.safetensors"
        tensors = load_file(file)
        if self.defect == "weights that are not numbers":
            tensors["model.norm.weight"][0] = float("nan")
        if self.defect == "a norm that lets nothing through":
            tensors["model.norm.weight"].zero_()
        save_file(tensors, file, {"format": "pt"})
        if self.defect == "the tokenizer of another model":
            path = outcome.dequantized / "tokenizer.json"
            tokenizer = json.loads(path.read_text())
            numbers = tokenizer["model"]["vocab"]
            numbers["a"], numbers["b"] = numbers["b"], numbers["a"]
            path.write_text(json.dumps(tokenizer))
        return outcome
