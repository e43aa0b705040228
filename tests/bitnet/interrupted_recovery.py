"""A recovery with dropout, shuffling and both averages of MuGrokfast, to be killed and taken up in other processes."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.fine_tuner import recover
from bitnet.recovery_checkpoint import Checkpoints
from tests.bitnet.small_models import small_model

SAMPLES = (torch.arange(20).unsqueeze(1) + 3 * torch.arange(16)) % 60 + 2
STEPS, EVERY = 10, 3


def run(folder: Path | None, end_after: int | None = None, end=lambda: os._exit(9), **settings):
    """The model's state at the end, and the report; after so many steps, `end` is called."""
    model = small_model("gpt2")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    config = Phase4Config(
        **{
            "recovery_recipe": "audit",
            "fine_tune_steps": STEPS,
            "fine_tune_lr": 1e-2,
            "fine_tune_decay": 0.5,
            "fine_tune_dropout": True,
            "gradual_quantization": 0.5,
            "distillation": 0.5,
            "seed": 3,
            **settings,
        }
    ).resolved(1000)
    compressed = CompressedModel.from_model(model, config)
    losses = iter([5.0, 4.0, 1.0, 3.0, 2.0])  # the best weights are those after five steps

    def progress(done, _):
        if done == end_after:
            end()

    checkpoints = None if folder is None else Checkpoints(folder, "the same run", EVERY)
    seen = iter_from(losses, folder)
    report = recover(compressed, SAMPLES, config, lambda: next(seen), progress, model, checkpoints)
    return compressed.model.state_dict(), report


def iter_from(losses, folder):
    """The losses that are still to come where a checkpoint holds the first ones."""
    saved = None if folder is None else Checkpoints(folder, "the same run", EVERY).load()
    for _ in range(0 if saved is None else len(saved.figures["best"]["points"])):
        next(losses)
    return losses


if __name__ == "__main__":
    state, _ = run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, sys.argv[1] + ".end")
