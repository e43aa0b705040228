"""Let a subject fine-tune in processes that `accelerate launch` starts, and in this one, which nothing has launched.

Run as a program, this file is one of the processes; each writes the parameters and the losses that it ends with.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.subject import Subject, TrainsTogether, require
from suites.threads import one_thread


@dataclass(frozen=True)
class Training:
    """What one process ends with."""

    parameters: dict[str, Tensor]
    losses: list[float]


def train(
    spec: str, packed: Path, samples: Tensor, steps: int, stop_after: int, folder: Path, processes: int
) -> tuple[list[Training], list[Training]]:
    """Trainings by each of so many processes: undisturbed ones, and ones that stop and go on from their checkpoints.

    An AssertionError carries the last lines of processes that failed.
    """
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    save_file({"samples": samples}, folder / "samples.safetensors")
    words = [str(Path(__file__)), spec, str(packed), str(steps), str(stop_after), str(folder)]
    start = ["-m", "accelerate.commands.launch", *_options(processes)]
    # A subject's file may import from wherever this process does.
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, *start, *words], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"the training by {processes} processes failed: {done.stderr.strip()[-600:]}"

    def ended(run: str) -> list[Training]:
        files = [folder / f"{run}-{index}" for index in range(processes)]
        return [
            Training(load_file(file.with_suffix(".safetensors")), json.loads(file.with_suffix(".json").read_text()))
            for file in files
        ]

    return ended("whole"), ended("resumed")


def train_alone(subject: Subject, packed: Path, samples: Tensor, steps: int, folder: Path) -> Training:
    """The undisturbed training in this process, on one thread."""
    with one_thread():
        ended = require(subject, TrainsTogether).fine_tune_together(packed, samples, steps, folder, None)
    assert ended is not None, "the training has stopped without being told to"
    return _training(*ended)


def _training(model: nn.Module, losses: Sequence[float]) -> Training:
    return Training({name: value.detach().clone() for name, value in model.named_parameters()}, list(losses))


def _options(processes: int) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # accelerate's own --cpu starts one process, or as many as mpirun is told; --multi_gpu is torchrun, here on CPUs.
    options = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"]
    return [*options, "--main_process_port", str(port), "--mixed_precision", "no", "--dynamo_backend", "no"]


def main(spec: str, packed: str, steps: str, stop_after: str, folder: str) -> None:
    """One of the processes."""
    from safetensors.torch import load_file, save_file

    from harness.subject import load_subject

    torch.set_num_threads(1)
    subject, place = require(load_subject(spec), TrainsTogether), Path(folder)
    samples, rank = load_file(place / "samples.safetensors")["samples"], os.environ.get("RANK", "0")

    def run(name: str, state: str) -> None:
        ended = subject.fine_tune_together(Path(packed), samples, int(steps), place / state, None)
        assert ended is not None, "the training has stopped without being told to"
        training = _training(*ended)
        save_file(training.parameters, place / f"{name}-{rank}.safetensors")
        (place / f"{name}-{rank}.json").write_text(json.dumps(training.losses))

    run("whole", "undisturbed")
    stopped = subject.fine_tune_together(Path(packed), samples, int(steps), place / "disturbed", int(stop_after))
    assert stopped is None, "the training went on after it should have stopped"
    run("resumed", "disturbed")


if __name__ == "__main__":
    main(*sys.argv[1:])
