"""Progress on the terminal, and the time and memory that the stages take."""

import functools
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bitnet.memory import give_back
from bitnet.progress_file import ProgressFile
from bitnet.result import StageRow

#: Called with (done, in all).
Advance = Callable[[int, int], None]


@functools.cache
def terminal() -> Console:
    """Standard error. One console for everything that moves, as bars of two consoles would overwrite each other."""
    return Console(stderr=True)


class Stages:
    """A context in which named stages run one after another, each measured and, if `visible`, shown on standard error.

    A terminal shows a bar for every stage; a log gets one line when a stage starts. A `file` tells other programs.
    """

    def __init__(self, count: int, visible: bool, file: ProgressFile | None = None) -> None:
        self.count, self._file = count, file
        bars = visible and sys.stderr.isatty() and not terminal().is_dumb_terminal
        self._lines = visible and not bars
        self._started = time.perf_counter()
        self._done: list[StageRow] = []
        self._running: tuple[str, float] | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=terminal(),
            disable=not bars,
        )

    def __enter__(self) -> "Stages":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._file is not None:
            self._file.end()

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Run one stage; gives the function that moves its bar."""
        self._running = (name, time.perf_counter())
        title = f"{len(self._done) + 1}/{self.count} {name}"
        if self._lines:
            print(f"{time.perf_counter() - self._started:7.1f} s  {title}", file=sys.stderr, flush=True)
        task = self._progress.add_task(title, total=None)
        self._tell(name)

        def advance(done: int, total: int) -> None:
            self._progress.update(task, completed=done, total=total)
            self._tell(name, (done, total))

        yield advance
        give_back()
        self._progress.update(task, completed=1, total=1)
        self._done, self._running = list(self.rows), None

    def _tell(self, name: str, step: tuple[int, int] | None = None) -> None:
        if self._file is not None:
            self._file.tell(self.count, tuple(self._done), name, step)

    @property
    def rows(self) -> tuple[StageRow, ...]:
        """The stages so far; one that is still running counts with its time until now."""
        if self._running is None:
            return tuple(self._done)
        name, started = self._running
        return (*self._done, StageRow(name=name, duration=time.perf_counter() - started, peak_memory=peak_memory()))


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in units of 1024 bytes
