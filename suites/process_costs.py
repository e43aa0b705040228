"""What an operation takes: processor seconds, and how far the resident set of this process rises meanwhile.

Run as a program, this file lets a subject compress a model in a fresh process, of which the peak counts as a whole.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"


@dataclass(frozen=True)
class Cost:
    """Processor seconds; resident bytes before, and at the peak."""

    seconds: float
    before: int
    peak: int

    @property
    def growth(self) -> int:
        """Bytes that the peak is above what was there before."""
        return self.peak - self.before


def cost_of(action: Callable[[], object]) -> Cost:
    """Carry out an action once (Linux alone tells its peak)."""
    gc.collect()
    _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    before, started = _resident("VmRSS"), time.process_time()
    action()
    return Cost(time.process_time() - started, before, _resident("VmHWM"))


def compress_in_fresh_process(spec: str, model: Path, out: Path) -> Cost:
    """`StreamsModels.compress_streamed` by the subject `spec` on one thread; raises CalledProcessError if it ends."""
    # A subject's file may import from wherever this process does.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-P", str(Path(__file__)), spec, str(model), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def main(spec: str, model: str, out: str) -> None:
    """The program in the fresh process."""
    from harness.subject import StreamsModels, load_subject, require

    subject = require(load_subject(spec), StreamsModels)
    print(json.dumps(asdict(cost_of(lambda: subject.compress_streamed(Path(model), Path(out))))))


def _resident(line: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(each.split()[1]) for each in lines if each.startswith(f"{line}:")) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
