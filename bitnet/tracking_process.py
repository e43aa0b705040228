"""`python -m bitnet.tracking_process`: log one finished run with Weights & Biases, in a process of its own.

Reads what to log as JSON from standard input. W&B goes on writing after a run is finished; when this process has ended,
its service has ended as well and the record is complete. Nothing of W&B's reaches the process that compresses. Exit
code 1 with one line on standard error: W&B could not do it.
"""

import importlib.util
import json
import os
import sys
from typing import Any, Final

from bitnet.errors import BitnetError, first_line

#: Seconds after which a server that does not answer is given up: when the run starts, where WANDB_INIT_TIMEOUT does not
#: say otherwise, and when all has been sent.
START_TIMEOUT, FINISH_TIMEOUT = 30.0, 120.0
#: W&B is to look at nothing but what it is given: not at code, packages, hardware or the terminal.
MANNERS: Final = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "finish_timeout": FINISH_TIMEOUT,
    "finish_timeout_raises": True,
}


def log(request: dict[str, Any]) -> None:
    """Log `metrics`, `summary` and `config` as a run in `mode`, with W&B's files in `folder`.

    Raises:
        BitnetError: W&B is not installed, or has no API key for what is to be sent.
    """
    if importlib.util.find_spec("wandb") is None:
        raise BitnetError("wandb is not installed, try pip install 'bitnet-audit[tracking]'")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of W&B's own errors, to its makers
    import wandb

    if request["mode"] == "online" and not wandb.login(prompt=False, verify=False):
        raise BitnetError("no API key is known, log in with `wandb login`")
    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", request["project"]),
        dir=request["folder"],
        mode=request["mode"],
        job_type="phase4",
        config=request["config"],
        settings=wandb.Settings(**MANNERS, init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", START_TIMEOUT))),
    ) as run:
        run.log(request["metrics"])
        run.summary.update(request["summary"])


def main() -> int:
    """Entry point of the module; see its docstring."""
    try:
        log(json.load(sys.stdin))
    except Exception as error:  # of W&B, its service process and the network: the run goes on without it
        print(first_line(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
