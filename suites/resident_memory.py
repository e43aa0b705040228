"""Memory that an open packed model takes, seen from outside: the resident set of a fresh process before and after.

Run as a program, this file opens a small packed model, so that what is imported counts for nothing, then the one that
is measured, lets it continue a text and writes down both resident sets.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NEW_TOKENS: Final = 32
STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True)
class Resident:
    """Resident sets in bytes, and the bytes of the files."""

    before: int
    after: int
    files: int

    @property
    def ratio(self) -> float:
        """Growth over the files' size."""
        return (self.after - self.before) / self.files


def measure(spec: str, small: Path, folder: Path, prompt: Sequence[int]) -> Resident:
    """Open `small`, then `folder`, in a fresh process with the subject `spec`; raises CalledProcessError if it ends."""
    words = [sys.executable, "-m", "suites.resident_memory", spec, str(small), str(folder), json.dumps(list(prompt))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout.splitlines()[-1])
    files = sum(path.stat().st_size for path in folder.iterdir())
    return Resident(before, after, files)


def main(spec: str, small: str, folder: str, prompt: str) -> None:
    """The program in the fresh process."""
    import torch

    from harness.opponents.decoders import SubjectArm
    from harness.subject import DecodesPacked, load_subject, require

    torch.set_num_threads(1)
    decodes = require(load_subject(spec), DecodesPacked)
    SubjectArm(decodes.open_decoder(Path(small))).greedy([1, 2, 3], 3)
    gc.collect()
    before = _resident()
    arm = SubjectArm(decodes.open_decoder(Path(folder)))
    arm.greedy(json.loads(prompt), NEW_TOKENS)
    print(json.dumps([before, _resident()]))


def _resident() -> int:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
