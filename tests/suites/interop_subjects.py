"""Subjects whose models other libraries run: ours, with at most one defect in what is handed to them."""

import atexit
import json
import re
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

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


class InteropSubject(BitnetSubject):
    """Compresses without calibration, so that nothing takes long; the defect has a name in words."""

    def __init__(self, defect=""):
        self.defect = defect

    @property
    def registering_module(self):
        return "tests.suites.heavy_module" if self.defect == "a heavy import" else "bitnet"

    # ------------------------------------------------------------------ packed artefacts

    def compress(self, model_folder, out, overrides):
        packed = self.pack_for_export(model_folder, "gguf", out / "packed")
        shutil.copytree(model_folder, out / "fp16")
        if self.defect == "no word for transformers":
            described = json.loads((packed / "config.json").read_text())
            del described["quantization_config"]
            rewrite(packed, "config.json", json.dumps(described).encode())
        return CompressionOutcome(packed, out / "fp16", {})

    def load_packed(self, path):
        model, tokenizer = super().load_packed(path)
        if self.defect == "another model in memory":
            model.model.norm.weight.data *= 1.01
        return model, tokenizer

    # ------------------------------------------------------------------ exports

    def export(self, packed, target, out):
        try:
            super().export(packed, target, out)
        except ValueError:
            if self.defect != "what does not fit is left out":
                raise
            out.mkdir(parents=True)
        if target == "huggingface":
            self.spoil_folder(out)
        else:
            out.write_bytes(self.spoiled(out.read_bytes()))

    def spoil_folder(self, out):
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

    def spoiled(self, content):
        changed = bytearray(content)
        if self.defect == "a byte of codes changed":
            changed[-100] ^= 1
        if self.defect == "tokens with other names":
            place = re.search(rb"<s>", content).start()
            changed[place + 1] = ord("z")
        if self.defect == "a third of the weights zero":
            third = len(changed) // 3
            changed[2 * third :] = bytes(len(changed) - 2 * third)
        return bytes(changed)

    # ------------------------------------------------------------------ tasks

    @property
    def task_folder(self):
        if not self.defect.startswith(("the answer", "facts", "copying")):
            return super().task_folder
        folder = Path(tempfile.mkdtemp(prefix="tasks-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "documents.py").write_text(DOCUMENTS.format(defect=self.defect))
        for name, role, text in zip(self.local_tasks, ("facts", "copies"), ("question", "text"), strict=True):
            (folder / f"{name}.yaml").write_text(TASK.format(name=name, role=role, text=text))
        return folder


def rewrite(packed, name, content):
    """Another content of a file that the manifest knows as its own."""
    from bitnet.checkpoint import digest_file

    (packed / name).write_bytes(content)
    manifest = json.loads((packed / "bitnet.json").read_text())
    manifest["files"][name] = {"sha256": digest_file(packed / name), "bytes": len(content)}
    (packed / "bitnet.json").write_text(json.dumps(manifest))
