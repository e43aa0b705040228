"""Compressions that the dashboard starts: programs of their own, with command, log and exit code on disk.

A job lives in a hidden folder beside the output. It has a session of its own and runs on when the dashboard ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from bitnet.checkpoint import read_json, write_json
from bitnet.errors import BitnetError, first_complaint

_JOB, _LOG, _CODE, _PROCESS = "job.json", "log.txt", "exit_code", "process"
#: The first word is the folder, the others are the command. The shell outlives it, to write down how it ended.
_SCRIPT = """
folder=$1
shift
echo $$ > "$folder/process"
"$@" > "$folder/log.txt" 2>&1
echo $? > "$folder/exit_code.tmp"
mv "$folder/exit_code.tmp" "$folder/exit_code"
"""
#: Seconds after a process is said to have started that it may have been made: a busy machine takes its time.
_SLACK = 60.0
#: The end of a log that is read, in bytes.
_TAIL = 8_000


class Job(BaseModel):
    """A command that was started at `started`, seconds since the epoch.

    `process` is the shell that runs it, None before that has started; `exit_code` is None before the end, and for a job
    that was killed together with its shell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: tuple[str, ...]
    started: float
    process: int | None = None
    exit_code: int | None = None


def job_folder(out: Path) -> Path:
    """The hidden folder of the job that fills `out`."""
    target = out.resolve()
    return target.with_name(f".{target.name}.job")


def start(out: Path, words: Sequence[str]) -> None:
    """Run `bitnet` with these words, detached from this process, so that it fills `out`.

    Args:
        words: those after "bitnet", all paths in them absolute.

    Raises:
        BitnetError: there is no place for the log.
    """
    folder = job_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_CODE, _PROCESS, _LOG):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise BitnetError(f"Cannot write {folder} ({error.strerror}): choose another output folder.") from error
    write_json(folder / _JOB, Job(words=tuple(words), started=time.time()).model_dump(mode="json"))
    command = [sys.executable, "-m", "bitnet", *words]
    subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "sh", str(folder), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(job: Job) -> None:
    """End a job as Ctrl-C would: what it has kept stays, and the same command goes on from there."""
    if job.process is not None and alive(job.process, job.started):
        with contextlib.suppress(ProcessLookupError):  # it has ended in this very moment
            os.killpg(job.process, signal.SIGTERM)


def under_way(job: Job) -> bool:
    """Whether a job that has no exit code may still get one."""
    if job.process is None:
        return time.time() < job.started + _SLACK
    return alive(job.process, job.started)


def alive(process: int, started: float) -> bool:
    """Whether the process that started so many seconds after the epoch runs: a number may be another's by now."""
    try:
        found = psutil.Process(process)
        return found.status() != psutil.STATUS_ZOMBIE and found.create_time() <= started + _SLACK
    except psutil.NoSuchProcess:
        return False


def read_job(out: Path) -> Job | None:
    """The job that was last started to fill `out`, None where there was none.

    Raises:
        BitnetError: its record is damaged.
    """
    folder = job_folder(out)
    if not (folder / _JOB).is_file():
        return None
    try:
        told = Job.model_validate(read_json(folder / _JOB))
    except ValidationError as error:
        raise BitnetError(f"{folder / _JOB} is damaged at {first_complaint(error)}: delete {folder}.") from None
    return told.model_copy(update={"process": _number(folder / _PROCESS), "exit_code": _number(folder / _CODE)})


def log_tail(out: Path) -> str:
    """The end of the log of a job, "" where there is none."""
    path = job_folder(out) / _LOG
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL))
        return stream.read().decode("utf-8", "replace")


def _number(path: Path) -> int | None:
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return int(text) if text.isdecimal() else None
