"""`python -m bitnet.resident FOLDER ARM THREADS`: the memory that an open model adds to a process of its own, in bytes.

A process of its own, because memory that another model has freed stays with a process, and counts. ARM is one of
`bitnet.benchmark.Precision`, for a model that transformers loads, or "runtime" for a packed folder.
"""

import subprocess
import sys
from pathlib import Path

from bitnet.arms import Arm, open_arm
from bitnet.errors import BitnetError

#: Tokens that are read, and tokens that are generated, before memory is looked at.
PROMPT, NEW = 16, 32


def resident_memory(source: str, kind: str, threads: int) -> int | None:
    """Bytes that the model takes once it has generated some tokens; None where the system does not tell.

    Raises:
        BitnetError: the process that measures ended with an error.
    """
    if not _STATISTICS.is_file():
        return None
    command = [sys.executable, "-m", "bitnet.resident", source, kind, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BitnetError(f"The memory of {source} could not be measured ({last}): run `bitnet bench` again.")
    return int(done.stdout)


_STATISTICS = Path("/proc/self/smaps_rollup")


def _resident() -> int:
    for line in _STATISTICS.read_text(encoding="ascii").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BitnetError(f"{_STATISTICS} does not tell the resident memory: run `bitnet bench` on another system.")


def main(source: str, kind: str, threads: str) -> None:
    """Print what opening and running a model adds to the resident memory, whose code is loaded before."""
    before: list[int] = []
    arm: Arm = open_arm(source, kind, int(threads), on_ready=lambda: before.append(_resident()))
    arm.run(list(range(PROMPT)), NEW)
    print(_resident() - before[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
