"""Bounds of time and memory around what might never end: a reader of hostile files, a process that no longer answers.

Both are the system's own (an alarm clock and a limit of address space), so that code which loops or allocates in C is
stopped as well. The alarm rings in the main thread, and there is one in a process: blocks cannot be nested.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEMORY: Final = 2 << 30
"""Bytes that opening a file of some kilobytes may take beyond what the process has."""


class HangError(BaseException):
    """Time is over; no reader catches this."""


@contextmanager
def time_limit(seconds: float, error: type[BaseException]) -> Iterator[None]:
    """Inside, `error` is raised once the seconds are over."""

    def ring(*_: object) -> None:
        raise error

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def bounds(seconds: float) -> Iterator[None]:
    """Inside, what takes too long raises HangError, and what takes more than `MEMORY` MemoryError."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        with time_limit(seconds, HangError):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
