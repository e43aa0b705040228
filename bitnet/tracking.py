"""A finished run in Weights & Biases: the metrics under `compression/` and the summary under `phase/`.

Offline, a run leaves its record in the output folder, from where `wandb sync` can send it; online, it is sent as well.
Nothing that W&B cannot do stops a compression: what was done instead is one of the result's fallbacks.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

from bitnet.errors import BitnetError
from bitnet.result import RESULT, FallbackRow, Phase4Result

Mode = Literal["offline", "online"]

#: Where the records are in the output folder, under the names that W&B gives them.
RECORDS: Final = "wandb"
#: The project, where WANDB_PROJECT names no other one.
PROJECT: Final = "bitnet-phase4"
#: Seconds after which the whole of it is given up.
PATIENCE = 300.0


def track(result: Phase4Result, out: Path) -> Phase4Result:
    """Record a run as its setting `tracking` says, in `out` and, online, on the server.

    Returns:
        The result, with one fallback more for every way of recording that failed.
    """
    modes: dict[str, tuple[Mode, ...]] = {"none": (), "offline": ("offline",), "online": ("online", "offline")}
    rows: list[FallbackRow] = []
    for mode in modes[result.config["tracking"]]:
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
    with tempfile.TemporaryDirectory() as scratch:
        request = {
            "mode": mode,
            "project": PROJECT,
            "folder": scratch,
            "config": {**result.config, "source": result.source, "command": result.command},
            "metrics": result.metrics,
            "summary": {f"phase/{name}": value for name, value in result.phase.items()},
        }
        _log(json.dumps(request))
        found = sorted(Path(scratch).glob("wandb/*run-*/run-*.wandb"))
        if not found:
            raise BitnetError("W&B left no record of the run.")
        for file in found:  # the one file that matters: logs of the program stay behind
            folder = out / RECORDS / file.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file.name)


def _log(request: str) -> None:
    # -P: what lies in the working directory must not pass for this package or one that it needs.
    command = [sys.executable, "-P", "-m", "bitnet.tracking_process"]
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise BitnetError(f"W&B did not finish within {PATIENCE:.0f} seconds.") from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BitnetError(f"W&B did not log the run ({reason}).")
