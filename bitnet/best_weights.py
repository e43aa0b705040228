"""The weights with the lowest loss seen in a training, kept beside those that are trained."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitnet.errors import BitnetError


@dataclass(frozen=True)
class SelectionPoint:
    """Loss of the packed form after so many steps, on the samples for selection; None where it is not finite."""

    step: int
    loss: float | None


class BestWeights:
    """The parameters with the lowest loss seen so far, the first of equals; those at the start are seen first.

    `step` is the one after which the kept ones were seen, `points` hold every loss that was measured.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], loss: Callable[[], float]) -> None:
        """Nothing is measured yet.

        Args:
            parameters: by name; copies are kept, values are put back by `restore`.
            loss: that of the parameters as they are; a BitnetError of it means that they are no candidate.
        """
        self._parameters, self._loss = parameters, loss
        self.kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._lowest = math.inf
        self.step = 0
        self.points: list[SelectionPoint] = []

    def consider(self, step: int) -> None:
        """Measure the parameters as they are after `step` steps and keep them if they are the best."""
        loss = math.inf
        with contextlib.suppress(BitnetError):  # weights that cannot be stored or run are no candidate
            loss = self._loss()
        self.points.append(SelectionPoint(step, loss if math.isfinite(loss) else None))
        if loss < self._lowest:
            self._lowest, self.step = loss, step
            for name, kept in self.kept.items():
                kept.copy_(self._parameters[name].detach())

    def stale(self, patience: int | None) -> bool:
        """Whether the last `patience` measurements have brought nothing better; None has patience without end."""
        later = sum(point.step > self.step for point in self.points)
        return patience is not None and later >= patience

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best parameters back, and drop the gradients of the last ones."""
        for name, kept in self.kept.items():
            self._parameters[name].copy_(kept)
            self._parameters[name].grad = None

    def figures(self) -> dict[str, Any]:
        """What `load` takes, as JSON values."""
        return {"step": self.step, "points": [asdict(point) for point in self.points]}

    def load(self, figures: Mapping[str, Any], kept: Mapping[str, Tensor]) -> None:
        """Take over `figures` and `kept` of an earlier object."""
        self.step = figures["step"]
        self.points = [SelectionPoint(**point) for point in figures["points"]]
        lowest = {point.step: point.loss for point in self.points}[self.step]
        self._lowest = math.inf if lowest is None else lowest
        for name, tensor in self.kept.items():
            tensor.copy_(kept[name])
