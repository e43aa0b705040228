"""Commands as a user types them: run in a folder of their own, two at a time, and everything that they left kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Ended:
    """A command that has ended: exit code, what it printed, and the files of its folder before and after, by digest."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    before: dict[str, str]
    after: dict[str, str]

    @property
    def json(self) -> Any:
        """Standard output as JSON; nothing else may stand there."""
        return json.loads(self.stdout)

    @property
    def messages(self) -> list[str]:
        """The lines on standard error that are not empty."""
        return [line.strip() for line in self.stderr.splitlines() if line.strip()]


def run(command: Sequence[str], words: Sequence[str], folder: Path) -> Ended:
    """Run a command in a folder, without a terminal and without the network."""
    before = files(folder)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [*command, *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return Ended(tuple(words), done.returncode, done.stdout, done.stderr, before, files(folder))


def files(folder: Path) -> dict[str, str]:
    """What is in a folder, at any depth: the digest of each file, "folder" for each folder."""
    return {
        path.relative_to(folder).as_posix(): "folder"
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def beyond_progress(ended: Ended, good: Sequence[Ended]) -> list[str]:
    """The lines on standard error that no good run of a command prints as well, numbers aside: what is not progress."""
    usual = {_without_numbers(line) for run in good for line in run.messages}
    return [line for line in ended.messages if _without_numbers(line) not in usual]


def _without_numbers(line: str) -> str:
    return re.sub(r"[\d.]+", "0", line)
