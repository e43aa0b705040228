"""The limits of this machine, measured beside what is held to them: int8 products a second, and bytes from memory.

A few lines of C are compiled on the spot by the system's compiler. Without one the limits are absent, and said to be:
a figure from a data sheet is no measurement.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.opponents import OpponentAbsent

SOURCE: Final = Path(__file__).with_suffix(".c")
COMPILERS: Final = ("cc", "gcc", "clang")
FLAGS: Final = ("-O3", "-march=native", "-shared", "-fPIC")
BUFFER_BYTES: Final = 192 << 20
"""More than any cache holds."""
STREAMS: Final = (1, 2, 4, 8)
TRIALS: Final = 3


@cache
def _library() -> Any:
    compiler = os.environ.get("CC") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise OpponentAbsent("the machine's limits are absent: there is no C compiler to measure them with")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "limits.so"
        words: Sequence[str] = (*compiler.split(), *FLAGS, str(SOURCE), "-o", str(out))
        try:
            subprocess.run(words, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", None) or str(error)
            first = told.strip().partition("\n")[0]
            raise OpponentAbsent(f"the machine's limits are absent: {compiler} failed ({first})") from error
        library = ctypes.CDLL(str(out))
    library.peak_name.restype = ctypes.c_char_p
    library.peak.restype, library.peak.argtypes = ctypes.c_int64, [ctypes.c_int64]
    library.read_memory.restype = ctypes.c_uint64
    library.read_memory.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


class Peak:
    """The int8 dot products of one core's registers: nothing is loaded or stored."""

    def __init__(self, macs: float) -> None:
        """About so many multiply-accumulates a run; raises OpponentAbsent without compiler or instruction."""
        self._peak, self._asked = _library().peak, int(macs)
        self.name = f"{_library().peak_name().decode()} peak"
        if not self.run():
            raise OpponentAbsent("the peak is absent: this processor has no int8 instruction that it is known by")
        self.macs = self.run()

    def run(self) -> int:
        """Do them once; returns how many there were."""
        return int(self._peak(self._asked))


class MemoryRead:
    """Reading a buffer that no cache holds, on one core, by the best number of streams."""

    def __init__(self) -> None:
        """Fill the buffer and find the best number of streams; raises OpponentAbsent without a compiler."""
        self._library, self._streams = _library(), STREAMS[0]
        self._buffer = np.ones(BUFFER_BYTES, dtype=np.uint8)
        self.bytes = self._buffer.nbytes
        best = math.inf
        for streams in STREAMS:
            for _ in range(TRIALS):
                started = time.perf_counter()
                self._read(streams)
                if (seconds := time.perf_counter() - started) < best:
                    best, self._streams = seconds, streams

    def run(self) -> int:
        """Read the buffer once; returns what was read, folded."""
        return self._read(self._streams)

    def _read(self, streams: int) -> int:
        return int(self._library.read_memory(self._buffer.ctypes.data, self.bytes, streams))
