"""Compressions of a large model by a subject's command: two at a time, timed, with the peak of their memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from suites.process_costs import resident

MINUTES: Final = "BITNET_AUDIT_MINUTES"
"""The variable that says how many minutes one check may take."""
USUAL_MINUTES: Final = 10.0
MINUTE: Final = 60.0
"""Seconds."""
INTERVAL: Final = 0.05
"""Seconds between two looks at a process."""
PATIENCE: Final = 3.0
"""After so many times what it may take a command is ended."""


@dataclass(frozen=True)
class Ended:
    """A compression that has ended: its exit code, last words, minutes on the clock and resident bytes at its peak."""

    out: Path
    code: int
    said: str
    minutes: float
    peak: int

    @property
    def packed(self) -> Path:
        """The packed artefact; a missed gate is no failure here, an artefact that is not there is."""
        assert self.code in (0, 1), f"the command ended with {self.code}: {self.said}"
        assert (self.out / "packed").is_dir(), f"there is no packed artefact: {self.said}"
        return self.out / "packed"


def minutes_granted() -> float:
    """How many minutes one check may take."""
    return float(os.environ.get(MINUTES, USUAL_MINUTES))


def compress_all(command: Sequence[str], runs: Mapping[str, Sequence[str]], folder: Path, limit: float) -> list[Ended]:
    """Carry out `compress` once for the words of each run, two at a time on one thread each.

    Args:
        runs: the words after `compress`, by the name of the output folder.
        folder: where the outputs and what the commands say go.
        limit: minutes that each may take; after `PATIENCE` times as many it is ended.
    """

    def compress(name: str) -> Ended:
        return _compress((*command, "compress", *runs[name], "--out", name), folder / name, limit)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compress, runs))


def _compress(words: Sequence[str], out: Path, limit: float) -> Ended:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    started, log, peak = time.monotonic(), out.with_suffix(".log"), 0
    with log.open("wb") as said:
        process = subprocess.Popen(
            words, cwd=out.parent, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            if time.monotonic() - started > MINUTE * PATIENCE * limit:
                process.kill()
            time.sleep(INTERVAL)
    last = log.read_text(encoding="utf-8", errors="replace").strip()[-400:]
    return Ended(out, process.returncode, last, (time.monotonic() - started) / MINUTE, peak)


def _peak(number: int) -> int:
    """Bytes at the peak of a process so far (what `wait4` tells counts its parent at the time of the fork as well)."""
    try:
        return resident("VmHWM", Path(f"/proc/{number}/status"))
    except (OSError, StopIteration):  # it has just ended
        return 0
