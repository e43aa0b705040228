"""What an operation takes: processor seconds, and how far the resident set of this process rises meanwhile.

Run as a program, this file lets a subject compress models in a fresh process, in which nothing else has been done.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"
BLOCK: Final = 1 << 16
"""Bytes from which on an exact process gives memory back to the system as soon as it is freed."""


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
    _give_back()
    _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    before, started = resident("VmRSS"), time.process_time()
    action()
    return Cost(time.process_time() - started, before, resident("VmHWM"))


class FreshProcess:
    """A process on one thread in which the subject `spec` compresses models, one after the other.

    `exact`: the allocator keeps no larger blocks for later, so that the peak is what is held at once, whatever came
    before.
    """

    def __init__(self, spec: str, exact: bool = False) -> None:
        # A subject's file may import from wherever this process does.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(BLOCK), "MALLOC_TRIM_THRESHOLD_": str(BLOCK)} if exact else {}
        words = [sys.executable, "-P", str(Path(__file__)), spec]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def compress(self, model: Path, out: Path) -> Cost:
        """`StreamsModels.compress_streamed`; raises RuntimeError with the process's last words if it ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([str(model), str(out)]) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._said.seek(0)
            raise RuntimeError(f"compression in a fresh process failed: {self._said.read().strip()[-600:]}")
        return Cost(**json.loads(answer))

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._said.close()


def compress_in_fresh_process(spec: str, model: Path, out: Path) -> Cost:
    """`StreamsModels.compress_streamed` by the subject `spec` in a process of its own."""
    with FreshProcess(spec) as process:
        return process.compress(model, out)


def main(spec: str) -> None:
    """The program in the fresh process: reads a model and an output folder a line, and answers with the cost."""
    from harness.subject import StreamsModels, load_subject, require

    subject, answers = require(load_subject(spec), StreamsModels), sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            model, out = map(Path, json.loads(line))
            print(json.dumps(asdict(cost_of(partial(subject.compress_streamed, model, out)))), file=answers, flush=True)


def _give_back() -> None:
    """Return what the allocator keeps to the system, where it is glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident(line: str, status: Path = _STATUS) -> int:
    """Bytes by a line of a process's status: VmRSS now, VmHWM at the peak so far; StopIteration if it has ended."""
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(each.split()[1]) for each in lines if each.startswith(f"{line}:")) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
