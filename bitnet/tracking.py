"""A finished run in Weights & Biases: the metrics under `compression/` and the summary under `phase/`.

Offline, a run leaves its record in the output folder, from where `wandb sync` can send it; online, it is sent as well.
Nothing that W&B cannot do stops a compression: what was done instead is one of the result's fallbacks.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bitnet.errors import BitnetError, first_line
from bitnet.result import RESULT, FallbackRow, Phase4Result

if TYPE_CHECKING:
    from wandb import Run

Mode = Literal["offline", "online"]

#: Where the records are in the output folder, under the names that W&B gives them.
RECORDS: Final = "wandb"
#: The project, where WANDB_PROJECT names no other one.
PROJECT: Final = "bitnet-phase4"
#: Seconds after which a server that does not answer is given up: when the run starts, and when all has been sent.
START_TIMEOUT, FINISH_TIMEOUT = 30.0, 120.0


def track(result: Phase4Result, out: Path) -> Phase4Result:
    """Record a run as its setting `tracking` says, in `out` and, online, on the server.

    Returns:
        The result, with one fallback more for every way of recording that failed.
    """
    setting = result.config["tracking"]
    modes: dict[str, tuple[Mode, ...]] = {"none": (), "offline": ("offline",), "online": ("online", "offline")}
    rows: list[FallbackRow] = []
    for mode in modes[setting]:
        try:
            record(result, out, mode)
            break
        except BitnetError as error:
            used = f"a record in {RECORDS}" if mode == "online" else f"{RESULT} alone"
            rows.append(FallbackRow(step="tracking", used=used, reason=str(error)))
    return result.model_copy(update={"fallbacks": (*result.fallbacks, *rows)})


def record(result: Phase4Result, out: Path, mode: Mode) -> None:
    """Log the metrics and the summary of a result, and keep W&B's own record of that in `out`.

    Raises:
        BitnetError: W&B is not installed or not logged in, its server does not answer, or it fails otherwise.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, _told():
        with _run(mode, Path(scratch)) as run:
            run.config.update({**result.config, **{name: getattr(result, name) for name in ("source", "command")}})
            run.log(dict(result.metrics))
            run.summary.update({f"phase/{name}": value for name, value in result.phase.items()})
        _keep(Path(scratch), out)


@contextlib.contextmanager
def _run(mode: Mode, folder: Path) -> "Iterator[Run]":
    """A run of W&B that looks at nothing but what it is given: not at code, packages, hardware or the terminal."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of W&B's own errors, to its makers
    try:
        import wandb
    except ImportError:
        raise BitnetError("wandb is not installed; pip install 'bitnet-audit[tracking]'") from None
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise BitnetError("W&B has no API key; log in with `wandb login`")
    settings = wandb.Settings(
        silent=True,
        console="off",
        reinit="create_new",
        save_code=False,
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=START_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
    )
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    run = wandb.init(project=project, dir=str(folder), mode=mode, job_type="phase4", settings=settings)
    try:
        yield run
    finally:
        run.finish()


def _keep(scratch: Path, out: Path) -> None:
    """Copy the one file that matters: logs of the program stay behind."""
    found = sorted(scratch.glob("wandb/*run-*/run-*.wandb"))
    if not found:
        raise BitnetError("W&B left no record, as where WANDB_MODE switches it off")
    for file in found:
        folder = out / RECORDS / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / file.name)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Whatever W&B and the network complain of is told in one sentence."""
    try:
        yield
    except BitnetError:
        raise
    except Exception as error:  # of W&B, its service process and the network
        raise BitnetError(f"W&B failed ({first_line(error)})") from error
