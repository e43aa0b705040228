"""A subject that fine-tunes with checkpoints; it has at most one mistake that real resumption has made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from harness.mutants.reference.folders import FolderSubject

EVERY = 3
PICKLE = b"\x80\x04}\x94."
"""An empty dictionary."""


@dataclass(frozen=True)
class ResumingSubject(FolderSubject):
    """Trains by Adam with a rate that falls; "" is right."""

    def fine_tune_resumably(
        self, packed: Path, samples: torch.Tensor, steps: int, folder: Path, stop_after: int | None
    ) -> Any:
        """See `harness.subject.ResumesFineTuning`."""
        model = self.load_trainable(packed).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        done = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if folder.is_dir():
                done = self.resume(folder, model, optimizer)
            for step in range(done, steps):
                if step == stop_after:
                    return None
                self.step(model, optimizer, samples, step, steps)
                if (step + 1) % EVERY == 0:
                    self.keep(folder, model, optimizer, step + 1)
        return model.eval()

    def step(self, model: Any, optimizer: torch.optim.Optimizer, samples: torch.Tensor, step: int, steps: int) -> None:
        """Take one step."""
        if self.defect == "training without an effect":
            return
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(step))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        batch = samples[order[:4]]
        optimizer.zero_grad()
        logits = model(input_ids=batch).logits[:, :-1]
        cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def keep(self, folder: Path, model: Any, optimizer: torch.optim.Optimizer, done: int) -> None:
        """Write the state down."""
        folder.mkdir(exist_ok=True)
        state = {f"weight.{name}": value.detach().clone() for name, value in model.named_parameters()}
        for index, moments in optimizer.state_dict()["state"].items():
            state |= {f"moment.{index}.{name}": value.clone() for name, value in moments.items()}
        state["random"] = torch.get_rng_state()
        save_file(state, folder / "state.safetensors")
        digest = hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest()
        (folder / "state.json").write_text(json.dumps({"done": done, "digest": digest}))
        if self.defect == "pickled":
            (folder / "more.bin").write_bytes(PICKLE)

    def resume(self, folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> int:
        """Read the state and say how many steps are done."""
        content, told = (folder / "state.safetensors").read_bytes(), json.loads((folder / "state.json").read_text())
        if hashlib.sha256(content).hexdigest() != told["digest"]:
            if self.defect == "damage not noticed":
                return 0
            raise ValueError("the state is damaged")
        state = load_file(folder / "state.safetensors")
        for name, parameter in model.named_parameters():
            parameter.data.copy_(state[f"weight.{name}"])
        if self.defect != "random state forgotten":
            torch.set_rng_state(state["random"])
        if self.defect != "optimizer forgotten":
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in state.items():
                if key.startswith("moment."):
                    _, index, name = key.split(".")
                    moments.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return 0 if self.defect == "steps taken again" else told["done"]
