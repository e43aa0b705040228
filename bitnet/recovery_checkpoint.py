"""Checkpoints of a recovery: everything that its next step depends on, so that it goes on where it was killed.

A checkpoint is a folder that is either complete or absent: `tensors.safetensors` with the trained parameters, the best
ones so far, the optimizer's tensors (the gradient average among them), codes and scales as they are now, and the state
of the random numbers; `state.json` with the figures, the optimizer's settings, the steps done (which place the rate's
schedule and the data's order), what the run is told by, and digests of the tensors and of the figures.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bitnet.checkpoint import atomic_directory, clear_leftovers, digest_file, read_json, write_json
from bitnet.errors import BitnetError

TENSORS, STATE = "tensors.safetensors", "state.json"
#: Raised whenever a checkpoint of an older version would be understood wrongly.
VERSION = 2


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint: tensors by group and name, and JSON values."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """Where a run keeps its checkpoint, what tells the run from others, and after how many steps it saves.

    `key` has to change with everything that decides the run's outcome: model, text, settings.
    """

    folder: Path
    key: str
    every: int

    def due(self, steps: int) -> bool:
        """Whether a checkpoint is due after so many steps."""
        return steps % self.every == 0

    def save(self, saved: Saved) -> None:
        """Replace the checkpoint by this one."""
        flat = {
            f"{group}/{name}": tensor.detach().contiguous()
            for group, named in saved.tensors.items()
            for name, tensor in named.items()
        }
        with atomic_directory(self.folder) as folder:
            # safetensors refuses tensors that share memory; best and current ones never do.
            save_file(flat, folder / TENSORS)
            sha256 = {"tensors": digest_file(folder / TENSORS), "figures": _digest(saved.figures)}
            told = {"version": VERSION, "key": self.key, "sha256": sha256}
            write_json(folder / STATE, {**told, "figures": saved.figures})

    def load(self) -> Saved | None:
        """The checkpoint of this run; None where there is none, or only one of another run.

        Raises:
            BitnetError: it is damaged.
        """
        clear_leftovers(self.folder)
        if not self.folder.is_dir():
            return None
        damaged = f"The checkpoint {self.folder} is damaged: delete it, and recovery starts anew."
        try:
            state = read_json(self.folder / STATE)
            if not isinstance(state, dict) or (state.get("version"), state.get("key")) != (VERSION, self.key):
                return None
            found = {"tensors": digest_file(self.folder / TENSORS), "figures": _digest(state.get("figures"))}
        except BitnetError as error:
            raise BitnetError(damaged) from error
        if found != state.get("sha256"):
            raise BitnetError(damaged)
        tensors: dict[str, dict[str, Tensor]] = {}
        try:
            for name, tensor in load_file(self.folder / TENSORS).items():
                group, _, rest = name.partition("/")
                tensors.setdefault(group, {})[rest] = tensor
        except SafetensorError as error:  # pragma: no cover - the digest has been found right
            raise BitnetError(damaged) from error
        return Saved(tensors, state["figures"])


def _digest(figures: Any) -> str:
    """SHA-256 over JSON values, as they are when they have been read back."""
    values = json.loads(json.dumps(figures))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
