"""A subject that compresses shards one tensor at a time and trains with others; at most one thing is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.nn.functional import cross_entropy

from harness.mutants.reference.folders import FolderSubject

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY = 3


@dataclass(frozen=True)
class ScalingSubject(FolderSubject):
    """Rounds each row to its mean magnitude; "" is right."""

    def compress_streamed(self, model_folder: Path, out: Path) -> Path:
        """See `harness.subject.StreamsModels`."""
        plain = out / "plain"
        shutil.copytree(model_folder, plain, ignore=shutil.ignore_patterns("*.safetensors"))
        shards = sorted(model_folder.glob("*.safetensors"))
        held = [load_file(shard) for shard in shards] if self.defect == "holds the whole model" else []
        held = [{name: tensor.float() for name, tensor in tensors.items()} for tensors in held]
        for shard in shards:
            made: dict[str, torch.Tensor] = {}
            with safe_open(shard, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - not a mapping
                    made[name] = self._rounded(name, stored.get_tensor(name).float())
            if self.defect == "cost grows with the square":  # the whole model once more for each shard
                for other in shards:
                    for name, tensor in load_file(other).items():
                        self._rounded(name, tensor.float())
            if self.defect == "a tensor left out":
                made.pop(next(iter(made)))
            save_file(made, plain / shard.name, {"format": "pt"})
        held.clear()
        return plain

    def _rounded(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not name.endswith("_proj.weight") or self.defect == "weights as they were":
            return tensor.half()
        scale = tensor.abs().mean(dim=1, keepdim=True)
        return (tensor.sign() * (tensor.abs() > scale / 2) * scale).half()

    def fine_tune_together(
        self, packed: Path, samples: torch.Tensor, steps: int, folder: Path, stop_after: int | None
    ) -> tuple[Any, Sequence[float]] | None:
        """See `harness.subject.TrainsTogether`."""
        model = self.load_trainable(packed).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        losses: list[float] = []
        with _processes() as (rank, count):
            state = folder / f"state-{rank}.pt.safetensors"
            if state.is_file():
                losses = self._resume(state, model, optimizer)
            while len(losses) < steps:
                if len(losses) == stop_after:
                    return None
                losses.append(self._step(model, optimizer, samples, len(losses), rank, count))
                if len(losses) % EVERY == 0:
                    folder.mkdir(exist_ok=True)
                    _keep(state, model, optimizer, losses)
        return model, losses

    def _step(self, model: Any, optimizer: Any, samples: torch.Tensor, step: int, rank: int, count: int) -> float:
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(step))
        batch = samples[order[:4]]
        part = torch.tensor_split(batch, count)[0 if self.defect == "one share for all" else rank]
        optimizer.zero_grad()
        logits = model(input_ids=part).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()) * len(part) / len(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if count > 1:
            for parameter in model.parameters():
                if parameter.grad is not None and self.defect != "gradients not added up":
                    distributed.all_reduce(parameter.grad)
            loss = loss.detach()
            distributed.all_reduce(loss)
        optimizer.step()
        return float(loss)

    def _resume(self, state: Path, model: Any, optimizer: Any) -> list[float]:
        tensors = load_file(state)
        for name, parameter in model.named_parameters():
            parameter.data.copy_(tensors[f"weight.{name}"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("moment."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        if self.defect != "moments forgotten":
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        losses: list[float] = json.loads(state.with_suffix(".json").read_text())
        return losses


def _keep(state: Path, model: Any, optimizer: Any, losses: list[float]) -> None:
    tensors = {f"weight.{name}": value.detach().clone() for name, value in model.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{index}.{name}": value.clone() for name, value in moments.items()}
    save_file(tensors, state)
    state.with_suffix(".json").write_text(json.dumps(losses))


@contextmanager
def _processes() -> Iterator[tuple[int, int]]:
    """This process's rank and how many there are, connected for as long as the block runs."""
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")
    yield rank, count
