"""The processes that train one model together, started by `accelerate launch`: each reads its share of every batch.

Every process holds the whole model and takes the same steps: gradients are added up over the processes before they are
clipped, so all of them see the gradient that one process would have seen on the whole batch, up to the order in which
float32 numbers are added. Where each process's share is one part (`batch_size`) and there are two of them, it is the
same to the last bit. Only the first one writes.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitnet.checkpoint import atomic_directory, exclusive
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError


@dataclass(frozen=True)
class Workers:
    """This process among `count`; the first one, alone or not, has the index 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Workers":
        """The processes that this one was launched with, connected; one process alone needs no accelerate.

        Raises:
            BitnetError: there are several, but accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        state = _accelerate().PartialState(cpu=True)
        return cls(state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def share(self, batch: Tensor) -> Tensor:
        """The samples of a batch that this process reads; none where there are more processes than samples."""
        return torch.tensor_split(batch, self.count)[self.index]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; one that no process has stays absent."""
        if self.count == 1:
            return
        trained = list(parameters)
        present = self.sum(torch.tensor([parameter.grad is not None for parameter in trained]).float())
        for parameter, found in zip(trained, present.tolist(), strict=True):
            if found:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.sum(own)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in each of them."""
        if self.count == 1:
            return tensor
        added: Tensor = _accelerate().utils.reduce(tensor, "sum")
        return added

    def any(self, here: bool) -> bool:
        """Whether it is so in one of the processes."""
        return bool(self.sum(torch.tensor(float(here))) > 0)

    def from_first(self, tensor: Tensor) -> Tensor:
        """What the first process has, in each of them."""
        if self.count == 1:
            return tensor
        sent: Tensor = _accelerate().utils.broadcast(tensor.clone())
        return sent

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            _accelerate().PartialState().wait_for_everyone()

    def exclusive(self, out: Path) -> contextlib.AbstractContextManager[None]:
        """`bitnet.checkpoint.exclusive` in the first process, on behalf of all."""
        return exclusive(out) if self.first else contextlib.nullcontext()

    @contextlib.contextmanager
    def output(self, out: Path) -> Iterator[Path]:
        """`atomic_directory` in the first process; in the others a folder that is thrown away."""
        if self.first:
            with atomic_directory(out) as temporary:
                yield temporary
            return
        scratch = Path(tempfile.mkdtemp(prefix="bitnet-worker-"))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def check(self, config: Phase4Config) -> None:
        """Refuse, with a BitnetError, settings that would let the processes take different ways."""
        if self.count == 1:
            return
        for name, value in (("fine_tune_dropout", config.fine_tune_dropout), ("max_minutes", config.max_minutes)):
            if value:
                raise BitnetError(f"{name} = {value} needs a single process: leave it out, or run without a launcher.")


def _accelerate() -> Any:
    try:
        import accelerate
    except ImportError as error:
        raise BitnetError("Several processes need accelerate: install bitnet-audit[distributed].") from error
    return accelerate
