"""Runs of Phase 4 on disk: how far each is, and what it has kept so far.

A run is known by its output folder, by the hidden folder beside it that its program writes while it runs, or by that of
a job which the dashboard started (see `bitnet.dashboard.jobs`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from bitnet.benchmark import Benchmark
from bitnet.checkpoint import read_json, work_folder
from bitnet.dashboard.jobs import Job, alive, read_job, under_way
from bitnet.errors import BitnetError
from bitnet.progress_file import Progress, read_progress
from bitnet.result import RESULT

State = Literal["starting", "running", "finished", "interrupted", "failed"]
WORDS: dict[State, str] = {
    "starting": "◌ starting",
    "running": "▶ running",
    "finished": "✔ finished",
    "interrupted": "⏸ interrupted",
    "failed": "✘ failed",
}


@dataclass(frozen=True)
class Run:
    """One run as its files tell: `progress` of the program that fills `out`, `job` if the dashboard started it."""

    out: Path
    state: State
    progress: Progress | None
    job: Job | None

    @property
    def active(self) -> bool:
        """Whether something is at work on it."""
        return self.state in ("starting", "running")


def read_run(out: Path) -> Run:
    """How far the run that fills `out` is.

    Raises:
        BitnetError: one of its files is damaged.
    """
    progress, job = read_progress(out), read_job(out)
    return Run(out, _state(out, progress, job), progress, job)


def _state(out: Path, progress: Progress | None, job: Job | None) -> State:
    if progress is not None and progress.process is not None and alive(progress.process, progress.started):
        return "running"
    if job is not None and not _newer_result(out, job):
        if job.exit_code is not None:
            return "interrupted" if job.exit_code >= 128 else "failed"  # 128 and more: ended by a signal
        if under_way(job):
            return "starting"
    return "finished" if (out / RESULT).is_file() and progress is None else "interrupted"


def _newer_result(out: Path, job: Job) -> bool:
    """Whether `out` has been filled since the job began."""
    result = out / RESULT
    return result.is_file() and result.stat().st_mtime > job.started


@dataclass(frozen=True)
class KeptLayer:
    """A layer that compensation has finished: its error relative to its output, and when it was kept."""

    name: str
    relative_error: float
    at: float


def kept_layers(out: Path) -> tuple[KeptLayer, ...]:
    """The layers that a run which compensates has kept so far, in the order in which it made them."""
    found = [_kept_layer(path) for path in (work_folder(out) / "layers").glob("*.safetensors")]
    return tuple(sorted((layer for layer in found if layer is not None), key=lambda layer: layer.at))


def _kept_layer(path: Path) -> KeptLayer | None:
    try:
        with safe_open(path, framework="numpy") as stored:
            about = read_layer_note((stored.metadata() or {}).get("layer", "{}"))
        at = path.stat().st_mtime
    except (OSError, SafetensorError):
        return None  # the run has finished meanwhile, and tidied up
    return None if about is None else KeptLayer(*about, at)


def read_layer_note(text: str) -> tuple[str, float] | None:
    """Name and relative error in the note that `bitnet.layer_store` leaves in a layer's file; None for another note."""
    try:
        about = json.loads(text)
        return str(about["name"]), float(about["relative_error"])
    except (ValueError, KeyError, TypeError):
        return None


def speed_file(out: Path) -> Path:
    """Where the dashboard looks for what `bitnet bench OUT --json` printed: beside the output."""
    return out.with_name(f"{out.name}-speed.json")


def read_speed(out: Path) -> Benchmark | None:
    """The benchmark that was kept of a run, None where there is none.

    Raises:
        BitnetError: the file is there and is no benchmark.
    """
    path = speed_file(out)
    if not path.is_file():
        return None
    try:
        return Benchmark.model_validate(read_json(path))
    except ValueError as error:
        if isinstance(error, BitnetError):
            raise
        raise BitnetError(f"{path} is not what `bitnet bench --json` prints: measure again.") from None
