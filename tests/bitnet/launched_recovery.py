"""`accelerate launch tests/bitnet/launched_recovery.py FOLDER`: recoveries of one small model, and what came of them.

Started without a launcher it does the same in one process.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.fine_tuner import mean_loss, recover
from bitnet.recovery_checkpoint import Checkpoints
from bitnet.workers import Workers
from tests.bitnet.small_models import VOCABULARY, small_model

STEPS = 4
SETTINGS = {"fine_tune_steps": STEPS, "fine_tune_batch_size": 4, "warmup_steps": 1, "fine_tune_lr": 1e-3}


class KilledError(Exception):
    """Stands for a process that is killed."""


def samples(count, seed):
    return torch.randint(0, VOCABULARY, (count, 12), generator=torch.Generator().manual_seed(seed))


def run(workers, batch_size, checkpoints=None, killed_after=None):
    config = Phase4Config(**SETTINGS, batch_size=batch_size, seed=3)
    compressed = CompressedModel.from_model(small_model("llama"), config.resolved(1000))
    held_out = samples(4, 1)

    def progress(done, _):
        if done == killed_after:
            raise KilledError

    def loss():
        return mean_loss(compressed.packed().model, held_out, 4)

    # Seven samples: the last batch of an epoch has three, which two processes cannot share equally.
    report = recover(compressed, samples(7, 0), config, loss, progress, None, checkpoints, workers)
    figures = {"training": [point.loss for point in report.training], "selection": [p.loss for p in report.selection]}
    return figures, {name: parameter.detach().clone() for name, parameter in compressed.model.named_parameters()}


def main(folder):
    torch.set_num_threads(1)
    workers = Workers.current()
    found = {"halves": run(workers, 2), "singles": run(workers, 1)}
    state = Checkpoints(folder / "state", "key", 2)
    try:
        run(workers, 2, state, killed_after=3)
    except KilledError:
        found["resumed"] = run(workers, 2, state)
    figures = {name: result[0] for name, result in found.items()}
    tensors = {f"{name}/{key}": value for name, (_, weights) in found.items() for key, value in weights.items()}
    save_file(tensors, folder / f"{workers.index}-of-{workers.count}.safetensors")
    (folder / f"{workers.index}-of-{workers.count}.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
