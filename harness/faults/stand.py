"""A stand on which a command is run with faults: each run's exit code, what it printed, and the calls that counted."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from harness.errors import AuditError
from harness.faults import server
from harness.faults.shim import ARM, NONE, Fault, Point, build
from harness.limits import time_limit
from harness.scratch import scratch_folder

PATIENCE: Final = 300.0
"""Seconds after which a run hangs; on a busy machine everything takes its time."""
MANNERS: Final = {
    "HF_HUB_OFFLINE": "1",
    "COLUMNS": "200",
    "OMP_NUM_THREADS": "1",  # a fork has no other thread
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its exit code (negative: the signal), what it printed, and its calls, in order.

    `hung` says that it had to be killed.
    """

    fault: Fault
    code: int
    stdout: str
    stderr: str
    points: tuple[Point, ...]
    hung: bool = False


class Launcher(Protocol):
    """Starts runs of one command."""

    def start(self, words: Sequence[str], folder: Path, arm: str, environment: Mapping[str, str], files: Path) -> int:
        """The process number of a run with these words in a folder; its output goes to `files` + .out and .err."""
        ...

    def wait(self, process: int, seconds: float) -> int | None:
        """The exit code of a run, None once it was stopped; raises TimeoutError when it takes longer."""
        ...


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Programs that are started within the block hear SIGINT, even if a shell has us ignore it in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


class Spawning:
    """Starts a program as it is."""

    def __init__(self, command: Sequence[str], shim: Path) -> None:
        self._command, self._shim = command, shim

    def start(self, words: Sequence[str], folder: Path, arm: str, environment: Mapping[str, str], files: Path) -> int:
        """See `Launcher`."""
        given = {**os.environ, **MANNERS, **environment, ARM: arm, "LD_PRELOAD": str(self._shim)}
        with files.with_suffix(".out").open("ab") as out, files.with_suffix(".err").open("ab") as told:
            command = [*self._command, *words]
            with interruptible():
                started = subprocess.Popen(
                    command, cwd=folder, env=given, stdin=subprocess.DEVNULL, stdout=out, stderr=told
                )
        started.returncode = 0  # `wait` waits for it
        return started.pid

    def wait(self, process: int, seconds: float) -> int | None:
        """See `Launcher`."""
        try:
            with time_limit(seconds, TimeoutError):
                return server.ending(process)
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            server.ending(process)
            raise


class Forking:
    """Starts a Python module, as `harness.faults.server` does; `words` are for the first run of it."""

    def __init__(self, module: str, words: Sequence[str], folder: Path, shim: Path) -> None:
        given = {**os.environ, **MANNERS, "LD_PRELOAD": str(shim)}
        given["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-P", str(Path(server.__file__)), str(shim), module, *words]
        self._told = (folder / "server.err").open("w+")
        told, pipe = self._told, subprocess.PIPE
        with interruptible():
            self._server = subprocess.Popen(
                command, cwd=folder, env=given, stdin=pipe, stdout=pipe, stderr=told, text=True
            )
        self.first = self._answer(2 * PATIENCE)

    def start(self, words: Sequence[str], folder: Path, arm: str, environment: Mapping[str, str], files: Path) -> int:
        """See `Launcher`."""
        request = {
            "words": list(words),
            "folder": str(folder),
            "arm": arm,
            "environment": dict(environment),
            "fresh": bool(environment),
            "stdout": str(files.with_suffix(".out")),
            "stderr": str(files.with_suffix(".err")),
        }
        return int(self._ask(request, PATIENCE))

    def wait(self, process: int, seconds: float) -> int | None:
        """See `Launcher`."""
        try:
            answer: int | None = self._ask({"wait": process}, seconds)
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            self._answer(PATIENCE)
            raise
        return answer

    def close(self) -> None:
        """End the server."""
        _stream(self._server.stdin).close()
        self._server.wait()
        _stream(self._server.stdout).close()
        self._told.close()

    def _ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        print(json.dumps(request), file=_stream(self._server.stdin), flush=True)
        return self._answer(seconds)

    def _answer(self, seconds: float) -> Any:
        output = _stream(self._server.stdout)
        if not select.select([output], [], [], seconds)[0]:
            raise TimeoutError
        if not (line := output.readline()):
            self._told.seek(0)
            last = (self._told.read().strip().splitlines() or ["no message"])[-1]
            raise AuditError(f"the command could not be run once without faults: {last}")
        return json.loads(line)


class Stand:
    """Runs a command with faults. Files below the folder `under` count."""

    def __init__(self, launcher: Launcher, under: Path, records: Path) -> None:
        """Output and calls of each run are kept in the folder `records`."""
        self._launcher, self._under, self._records = launcher, under, records
        self._runs = 0

    def begin(self, words: Sequence[str], fault: Fault, environment: Mapping[str, str] | None = None) -> Started:
        """Start a run, with variables beyond those of this process; one that is given any starts Python anew."""
        self._runs += 1
        files = self._records / f"run-{self._runs}"
        arm = fault.words(files.with_suffix(".log"), self._under)
        process = self._launcher.start(words, self._under, arm, environment or {}, files)
        return Started(self._launcher, process, fault, files)

    def run(self, words: Sequence[str], fault: Fault = NONE, environment: Mapping[str, str] | None = None) -> Ended:
        """Start a run and wait for its end."""
        return self.begin(words, fault, environment).end()


@dataclass(frozen=True)
class Started:
    """A run under way."""

    launcher: Launcher
    process: int
    fault: Fault
    files: Path

    def stopped(self) -> bool:
        """Wait until the run was stopped by its fault, or has ended."""
        return self.launcher.wait(self.process, PATIENCE) is None

    def go_on(self) -> None:
        """Let a run that was stopped go on."""
        os.kill(self.process, signal.SIGCONT)

    def end(self) -> Ended:
        """Wait for the end; a run that hangs is killed."""
        hung = False
        try:
            code = self.launcher.wait(self.process, PATIENCE)
        except TimeoutError:
            code, hung = -signal.SIGKILL, True
        lines = self._text(".log").splitlines()
        points = tuple(map(Point.read, lines))
        return Ended(
            self.fault, -signal.SIGSTOP if code is None else code, self._text(".out"), self._text(".err"), points, hung
        )

    def _text(self, suffix: str) -> str:
        path = self.files.with_suffix(suffix)
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


@contextlib.contextmanager
def open_stand(command: Sequence[str], words: Sequence[str], under: Path, scratch: Path) -> Iterator[Stand]:
    """A stand for a command, whose first run, without faults, is that with `words` in the folder `scratch`.

    Raises:
        NoShim: no faults can be made here.
    """
    with scratch_folder("faults") as records:
        shim = build(records)
        if list(command[:2]) == [sys.executable, "-m"] and len(command) == 3:
            forking = Forking(command[2], words, scratch, shim)
            try:
                yield Stand(forking, under, records)
            finally:
                forking.close()
        else:
            yield Stand(Spawning(command, shim), under, records)


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
