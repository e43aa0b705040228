"""Reload an artefact in a new interpreter and give back what it computes there.

Run as a program, this file loads one folder, by plain transformers or through a subject, and writes the tokens and
logits of a text. It then shares nothing with the process that wrote the folder; plain mode imports nothing from the
auditor either, so that whatever is imported there is what a third party would need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor


@dataclass(frozen=True)
class Reloaded:
    """What a fresh process made of an artefact.

    `problems` are weights that were missing or left over; `files` are the sources of all modules imported there.
    """

    tokens: Int64[Tensor, "1 length"]
    logits: Float32[Tensor, "1 length vocabulary"]
    problems: tuple[str, ...]
    files: tuple[Path, ...]


class Reload:
    """A process under way: `Reload(...)` starts it, `result()` waits for it. Two of them keep two cores busy."""

    def __init__(self, folder: Path, text: str, work: Path, spec: str | None, threads: int) -> None:
        """Reload `folder` through the subject `spec`, or by plain transformers for None; `work` must not exist yet."""
        work.mkdir()
        self._output = work / "logits.safetensors"
        (work / "text.txt").write_bytes(text.encode())
        words = ["-P", str(Path(__file__)), str(folder), str(work / "text.txt"), str(self._output), str(threads)]
        # A subject's file may import from wherever this process does.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment.pop("PYTHONHASHSEED", None)  # another order of sets than here
        self._process = subprocess.Popen(
            [sys.executable, *words, *([] if spec is None else [spec])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def result(self) -> Reloaded:
        """Wait and read; an AssertionError carries the last line of a process that failed."""
        from safetensors.torch import load_file

        out, err = self._process.communicate()
        last = (err.strip().splitlines() or ["no message"])[-1]
        assert self._process.returncode == 0, f"the artefact cannot be reloaded in a fresh process: {last}"
        told, tensors = json.loads(out.splitlines()[-1]), load_file(self._output)
        return Reloaded(
            tokens=tensors["tokens"],
            logits=tensors["logits"],
            problems=tuple(told["problems"]),
            files=tuple(Path(file) for file in told["files"]),
        )


def load_plain(folder: str) -> tuple[Any, Any, list[str]]:
    """Model and tokenizer by transformers alone, and which weights were missing or left over."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    problems = [f"{kind}: {key}" for kind in kinds for key in sorted(map(str, report[kind]))]
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True), problems


def load_through_subject(folder: str, spec: str) -> tuple[Any, Any, list[str]]:
    """Model and tokenizer by the subject; what is missing is its own to report."""
    from harness.subject import CompressesModels, load_subject, require

    model, tokenizer = require(load_subject(spec), CompressesModels).load_packed(Path(folder))
    return model, tokenizer, []


def main(folder: str, text: str, output: str, threads: str, *spec: str) -> None:
    """Write tokens and logits of the text in the file `text`; print problems and the files of all imported modules."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(int(threads))
    model, tokenizer, problems = load_through_subject(folder, *spec) if spec else load_plain(folder)
    tokens = torch.tensor([tokenizer.encode(Path(text).read_bytes().decode())])
    with torch.no_grad():
        logits = model.eval()(input_ids=tokens, use_cache=False).logits
    save_file({"tokens": tokens, "logits": logits.float().contiguous()}, output)
    files = sorted({str(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))})
    print(json.dumps({"problems": problems, "files": files}))


if __name__ == "__main__":
    main(*sys.argv[1:])
