"""`progress.json`: how far a run of Phase 4 is, for other programs to read while it runs and after it was killed.

It lies in the hidden folder beside the output (`bitnet.checkpoint.work_folder`), with what lets the run go on, and is
written whole or not at all. Whoever reads it looks whether `process` is alive: a run that was killed says nothing.
Before the outputs are put in their place it gets the digest of `result.json`: so a run that is killed after that is
known to have finished.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, ValidationError

from bitnet.checkpoint import digest_file, read_json, work_folder, write_json
from bitnet.errors import BitnetError, first_complaint
from bitnet.result import RESULT, Phase4Result, Record, StageRow, load_result

PROGRESS = "progress.json"
#: Seconds between two writes within a stage, at least: what others see is at most so old.
INTERVAL: Final = 1.0


class Progress(Record):
    """Where a run is: stages that are done, the one that runs, and its step of so many, where it counts them.

    Times are seconds since the epoch; `process` is the process id of the run, which is older than `started`, and None
    once the run has ended early. `result` is the SHA-256 of the `result.json` of a run that has nothing left to do but
    to put its outputs in their place.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    command: str
    process: int | None
    started: float
    updated: float
    stages: int
    done: tuple[StageRow, ...]
    running: str
    step: int | None
    steps: int | None
    result: str | None = None


class ProgressFile:
    """Writes the progress of this process's run that is to fill `out`, told as `command`."""

    def __init__(self, out: Path, command: str) -> None:
        self._path, self._command = work_folder(out) / PROGRESS, command
        self._started = time.time()
        self._last: Progress | None = None

    def tell(self, stages: int, done: tuple[StageRow, ...], running: str, step: tuple[int, int] | None) -> None:
        """Write where the run is, unless that was done less than INTERVAL ago and the stage is still the same.

        Args:
            stages: how many there are in all.
            done: those that have ended.
            running: name of the stage that runs.
            step: (done, in all) of its steps, None where it has not counted them yet.
        """
        now = time.time()
        last = self._last
        if last is not None and last.running == running and now - last.updated < INTERVAL:
            return
        progress = Progress(
            command=self._command,
            process=os.getpid(),
            started=self._started,
            updated=now,
            stages=stages,
            done=done,
            running=running,
            step=None if step is None else step[0],
            steps=None if step is None else step[1],
        )
        self._write(progress)

    def finish(self, directory: Path) -> None:
        """Say that the outputs in `directory` are complete."""
        assert self._last is not None  # stages have been told of
        self._write(self._last.model_copy(update={"result": digest_file(directory / RESULT)}))

    def end(self) -> None:
        """Tidy up at the end; where the run has finished or left something to go on from, say that it has ended."""
        folder = self._path.parent
        if self._last is None or not folder.is_dir():
            return
        if self._last.result is None and {entry.name for entry in folder.iterdir()} <= {PROGRESS}:
            self._path.unlink(missing_ok=True)
            folder.rmdir()
        else:
            self._write(self._last.model_copy(update={"process": None}))

    def _write(self, progress: Progress) -> None:
        write_json(self._path, progress.model_dump(mode="json"))
        self._last = progress


def read_progress(out: Path) -> Progress | None:
    """The progress of a run that is to fill `out`, None where there is none.

    Raises:
        BitnetError: the file is there and is damaged.
    """
    path = work_folder(out) / PROGRESS
    if not path.is_file():
        return None
    try:
        return Progress.model_validate(read_json(path))
    except ValidationError as error:
        raise BitnetError(f"{path} is damaged at {first_complaint(error)}: delete it.") from None


def finished_result(out: Path, command: str) -> Phase4Result | None:
    """What stands at `out` where this very command has put it there and was killed before it could tidy up; else None.

    A run is told apart by the digest of its result, so that what another run has written is never taken for it.
    """
    with contextlib.suppress(BitnetError):  # what is damaged or missing says nothing of any run
        told = read_progress(out)
        if told is not None and told.command == command and told.result == digest_file(out / RESULT):
            return load_result(out)
    return None
