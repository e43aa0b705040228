"""The library that faults come from, compiled on the spot, and the words in which it is told what to do.

`shim.c` is loaded before all other libraries (LD_PRELOAD) and stands between a program and the system, so that a kill
falls between the bytes of a write in whatever language it was written. It has been tried on Linux.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

SOURCE: Final = Path(__file__).with_name("shim.c")
COMPILERS: Final = ("cc", "gcc", "clang")
ARM: Final = "FAULT_ARM"
Kind = Literal["none", "kill", "signal", "full disk", "error", "read-only", "stop", "clock", "memory", "file size"]
_NUMBERS: Final[dict[Kind, int]] = {
    "none": 0,
    "kill": 1,
    "signal": 2,
    "full disk": 3,
    "error": 4,
    "read-only": 5,
    "stop": 6,
    "clock": 7,
    "memory": 8,
    "file size": 9,
}


class NoShim(Exception):  # noqa: N818 - nothing is wrong with what is audited
    """Faults cannot be made here: there is no compiler, or no LD_PRELOAD."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong, at which of the calls that count (from 1), and a value.

    kill: within the call, or, with a value, after that line on standard error. signal: its number is the value. full
    disk, read-only: from the call on. error: that call alone, with the errno. stop: SIGSTOP. clock: put back by so many
    seconds, on again at the next call, and so forth. memory: bytes of address space that may be added from then on.
    file size: bytes that a file may have, at any time.
    """

    kind: Kind = "none"
    at: int = 0
    value: int = 0

    def words(self, log: Path, under: Path) -> str:
        """What the shim is told: calls on files below the folder `under` count, and are written to `log`."""
        return f"{_NUMBERS[self.kind]} {self.at} {self.value} {log} {under}"

    def __str__(self) -> str:
        place = f" at call {self.at}" if self.at else ""
        return f"{self.kind}{f' {self.value}' if self.value else ''}{place}"


NONE: Final = Fault()


@dataclass(frozen=True)
class Point:
    """A call that counted: what it did, with how many bytes, to which file."""

    what: Literal["t", "w", "c", "r", "m", "u", "s"]
    bytes: int
    path: str

    @classmethod
    def read(cls, line: str) -> Point:
        """From a line of the log."""
        what, size, path = line.split(" ", 2)
        return cls(what, int(size), path)  # type: ignore[arg-type]


def build(folder: Path) -> Path:
    """Compile the shim into a folder; raises NoShim where that is impossible."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise NoShim("faults cannot be made: there is no C compiler")
    out = folder / "shim.so"
    if re.search(r"[\s:]", str(out)):
        raise NoShim(f"faults cannot be made: LD_PRELOAD takes no path like {folder}")
    words = [*compiler.split(), "-O1", "-shared", "-fPIC", str(SOURCE), "-o", str(out), "-ldl"]
    try:
        subprocess.run(words, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().partition("\n")[0]
        raise NoShim(f"faults cannot be made: {compiler} failed ({told})") from error
    return out
