"""Subjects whose models other libraries run: ours, with at most one defect in what is handed to them.

What other libraries read is bound to their formats, and a second implementation of these would be those libraries.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from typing_extensions import override

from harness.subject import CompressionOutcome
from harness.subjects.bitnet import BitnetSubject

TASK = """task: {name}
custom_dataset: !function documents.{role}
output_type: multiple_choice
test_split: test
doc_to_text: {text}
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
DOCUMENTS = """
from datasets import Dataset
from bitnet.tasks import copying, stdlib_facts

DEFECT = {defect!r}

def facts(**_):
    found = list(stdlib_facts.documents())
    for fact in found:
        if DEFECT == "the answer in the question":
            fact["question"] += " " + fact["choices"][fact["answer"]]
        if DEFECT == "facts with a favourite place":
            choices = fact["choices"]
            choices[0], choices[fact["answer"]], fact["answer"] = choices[fact["answer"]], choices[0], 0
    return {{"test": Dataset.from_list(found)}}

def copies(**_):
    found = list(copying.documents())
    for document in found:
        if DEFECT == "copying that counting solves":
            document["text"] = document["choices"][document["answer"]] + " " + document["text"]
        if DEFECT == "copying that looking back does not solve":
            document["answer"] = (document["answer"] + 1) % 4
    return {{"test": Dataset.from_list(found)}}
"""
_ONE_LETTER = b"\x01" + bytes(7)
"""How a GGUF file begins a string of one byte."""


class InteropSubject(BitnetSubject):
    """Compresses without calibration, so that nothing takes long; files of its own go into `folder`."""

    def __init__(self, defect: str, folder: Path) -> None:
        self.defect, self.folder = defect, folder
        if defect == "a heavy import":
            self.registering_module = "harness.mutants.reference.heavy_module"

    # ------------------------------------------------------------------ packed artefacts

    @override
    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        packed = self.pack_for_export(model_folder, "gguf", out / "packed")
        shutil.copytree(model_folder, out / "fp16")
        if self.defect == "no word for transformers":
            described = json.loads((packed / "config.json").read_text())
            del described["quantization_config"]
            rewrite(packed, "config.json", json.dumps(described).encode())
        return CompressionOutcome(packed, out / "fp16", {})

    @override
    def load_packed(self, path: Path) -> tuple[Any, Any]:
        model: Any
        model, tokenizer = super().load_packed(path)
        if self.defect == "another model in memory":
            model.model.norm.weight.data *= 1.01
        return model, tokenizer

    # ------------------------------------------------------------------ exports

    @override
    def export(self, packed: Path, target: str, out: Path) -> None:
        try:
            super().export(packed, target, out)
        except ValueError:
            if self.defect != "what does not fit is left out":
                raise
            out.mkdir(parents=True)
            return
        if target == "huggingface":
            self.spoil_folder(out)
        else:
            out.write_bytes(self.spoiled(out.read_bytes()))

    def spoil_folder(self, out: Path) -> None:
        """Spoil an export to transformers."""
        file = out / "model.safetensors"
        tensors = load_file(file)
        for name, tensor in tensors.items():
            if self.defect == "scales that multiply" and name.endswith("weight_scale"):
                tensors[name] = tensor.reciprocal()
            if self.defect == "rows in another order" and tensor.dtype == torch.uint8:
                tensors[name] = tensor.flip(0)
        if self.defect in ("scales that multiply", "rows in another order"):
            save_file(tensors, file, {"format": "pt"})
        if self.defect == "an export that needs the package":
            described = json.loads((out / "config.json").read_text())
            described["quantization_config"]["quant_method"] = "bitnet-packed"
            (out / "config.json").write_text(json.dumps(described))

    def spoiled(self, content: bytes) -> bytes:
        """An export to GGUF, spoilt."""
        changed = bytearray(content)
        if self.defect == "a byte of codes changed":
            changed[-100] ^= 1
        if self.defect == "tokens with other names":
            changed[content.index(b"<s>") + 1] = ord("z")
        if self.defect == "two letters change places":
            for old, new in ((b"a", b"b"), (b"b", b"a")):
                place = content.index(_ONE_LETTER + old) + len(_ONE_LETTER)
                changed[place : place + 1] = new
        if self.defect == "a third of the weights zero":
            third = len(changed) // 3
            changed[2 * third :] = bytes(len(changed) - 2 * third)
        return bytes(changed)

    # ------------------------------------------------------------------ lm-eval

    @property
    @override
    def lm_eval_command(self) -> tuple[str, ...]:
        if self.defect == "a command line that does not know the name":
            return (sys.executable, "-m", "lm_eval")
        return super().lm_eval_command

    @property
    @override
    def task_folder(self) -> Path:
        if not self.defect.startswith(("the answer", "facts", "copying")):
            return super().task_folder
        folder = self.folder / "tasks"
        folder.mkdir(exist_ok=True)
        (folder / "documents.py").write_text(DOCUMENTS.format(defect=self.defect))
        for name, role, text in zip(self.local_tasks, ("facts", "copies"), ("question", "text"), strict=True):
            (folder / f"{name}.yaml").write_text(TASK.format(name=name, role=role, text=text))
        return folder


def rewrite(packed: Path, name: str, content: bytes) -> None:
    """Another content of a file that the manifest knows as its own."""
    (packed / name).write_bytes(content)
    manifest = json.loads((packed / "bitnet.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (packed / "bitnet.json").write_text(json.dumps(manifest))
