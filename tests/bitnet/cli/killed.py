"""`python -m tests.bitnet.cli.killed STAGES ARGUMENTS...`: the command line, killed without warning again and again.

Starting Python takes longer than a small run does, so the command line is imported once. For every one of the stages,
separated by commas, a child process runs `bitnet ARGUMENTS` until it says that the stage begins, and is killed then;
with a time behind the stage, as in `6/7+0.3`, so many seconds later. The last run is left to end.
"""

import os
import signal
import sys
import time

import torch

from bitnet.cli import app
from bitnet.models import load_model


def begin(arguments: list[str]) -> tuple[int, int]:
    """The process number of a child that runs the command, and the reading end of its standard error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    os.dup2(writing, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    app(arguments)
    os._exit(0)  # not reached: the command line ends its process itself


def kill_at(moment: str, arguments: list[str]) -> None:
    stage, _, later = moment.partition("+")
    child, reading = begin(arguments)
    with os.fdopen(reading) as told:
        lines = iter(told)
        if not any(stage in line for line in lines):
            raise SystemExit(f"the run was over before {stage}")
        time.sleep(float(later or 0))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def main() -> int:
    torch.set_num_threads(1)  # a forked process has no other thread
    moments, arguments = sys.argv[1].split(","), sys.argv[2:]
    load_model(arguments[1])  # so that no child imports what this takes
    for moment in moments:
        kill_at(moment, arguments)
    child, reading = begin(arguments)
    with os.fdopen(reading) as told:
        sys.stderr.write(told.read())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
