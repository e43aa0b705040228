"""Subjects that open files of others, and whose sources and artefacts hold no code, with at most one defect."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from harness.mutants.reference.bare import BareSubject
from harness.mutants.reference.compressing import CompressingSubject
from harness.mutants.reference.repositories import CLEAN, source_tree
from harness.subject import CompressionOutcome, Declaration

KEYS = ("seed", "tau", "steps")


class OpeningSubject:
    """Reads settings, one number a line."""

    declaration = Declaration(name="opening", version="1")

    def __init__(self, defect: str = "") -> None:
        self.defect = defect

    def write_configuration(self, **user: Any) -> str:
        """See `harness.subject.ReadsConfiguration`."""
        return "".join(f"{key}: {user.get(key, 1)}\n" for key in KEYS)

    def read_configuration(self, parameters: int, file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
        """See `harness.subject.ReadsConfiguration`."""
        text = "" if file is None else file.read_text(encoding="utf-8")
        found: dict[str, Any] = {}
        for line in (*text.splitlines(), *overrides):
            key, separator, value = line.partition(":")
            if key not in KEYS or not separator:
                raise self.refusal(key[:20], file)
            try:
                found[key] = float(value)
            except ValueError:
                raise self.refusal(value[:20], file) from None
        return found

    def refusal(self, what: str, file: Path | None) -> Exception:
        """The error for what is no number."""
        if self.defect == "an error from deep inside":
            return TypeError(what)
        if self.defect == "nothing is said":
            return ValueError("")
        if self.defect == "waits for ever":
            time.sleep(60)
        if self.defect == "takes all memory":
            return OSError(str(len(bytearray(1 << 36))))
        if self.defect == "writes elsewhere" and file is not None:
            (file.parent / "elsewhere" / "x").write_text(what, encoding="utf-8")
        return ValueError(f"{what} is no setting")


LEFT = {"a pickle in an artefact", "an archive in an artefact", "a link out of an artefact", "code in an artefact"}


class LeavingSubject(CompressingSubject):
    """Compresses, and may leave something in the packed artefact that does not belong there."""

    def __init__(self, defect: str = "") -> None:
        self.defect = defect

    @override
    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        outcome = super().compress(model_folder, out, overrides)
        if self.defect == "a pickle in an artefact":
            (outcome.packed / "state").write_bytes(b"\x80\x04N.")
        if self.defect == "an archive in an artefact":
            (outcome.packed / "more").write_bytes(b"PK\x05\x06" + bytes(18))
        if self.defect == "a link out of an artefact":
            (outcome.packed / "original.json").symlink_to(model_folder / "config.json")
        if self.defect == "code in an artefact":
            (outcome.packed / "modeling.py").write_text("", encoding="utf-8")
        return outcome

    @override
    def load_packed(self, path: Path) -> tuple[Any, Any]:
        try:
            return super().load_packed(path)
        except (ValueError, OSError):
            raise
        except Exception as error:  # whatever transformers makes of a damaged file
            raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


SOURCES: Mapping[str, str] = {
    "unpickles": "import pickle\n",
    "unpickles by another name": "from joblib import load\n",
    "tensors by pickle": "import torch\ntorch.load('x')\n",
    "tensors into a pickle": "import torch\ntorch.save({}, 'x')\n",
    "arrays by pickle": "import numpy\nnumpy.load('x', allow_pickle=True)\n",
    "code of a model": "work(1, trust_remote_code=True)\n",
    "objects of YAML": "import yaml\nyaml.load('x', Loader=yaml.Loader)\n",
    "a shell": "import subprocess\nsubprocess.run('x', shell=True)\n",
    "text as code": "eval('x')\n",
    "HTML of others": "work(1, unsafe_allow_html=True)\n",
}
SAFE = (
    "import subprocess, torch, yaml\nsubprocess.run(['x'])\ntorch.load('x', weights_only=True)\n"
    "yaml.load('x', Loader=yaml.SafeLoader)\nwork(1, trust_remote_code=False)\n"
)


def sources(words: str, root: Path) -> BareSubject:
    """A subject whose sources do one unsafe thing, or come as near to each as is safe."""
    return source_tree(root, {"quantizer.py": CLEAN + "\n\n" + SOURCES.get(words, SAFE)})
