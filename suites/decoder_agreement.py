"""How far two ways of running one packed artefact agree on a text, and whether the text is long enough to tell.

Sums that differ in their last bit now and then round an activation to the next of its 255 steps, and such a step grows
through the layers: on a model of 30 layers the logits of two right decoders differ in their first digits, as those of
one library do when it only adds up in another order. Averaged over a text that is noise around zero, a decoder that
computes something else is off to one side. So the text is read in windows, and the difference has an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from harness.statistics import Interval, paired_difference

TARGET: Final = 1e-3
"""The relative difference of two perplexities up to which they agree, as the criterion has it."""
WIDEST: Final = 0.05
"""An interval that reaches further says nothing at all, and is a finding whatever its middle."""

Run = Callable[[Sequence[int]], Float[Tensor, "length vocabulary"]]


def loss(logits: Float[Tensor, "length vocabulary"], tokens: Sequence[int]) -> float:
    """Mean negative log-likelihood of each token given those before it, in nats and float64."""
    scores = logits[:-1].double().log_softmax(-1)
    return -float(scores.gather(-1, torch.tensor(tokens)[1:, None]).mean())


@dataclass
class Reading:
    """Two runs over the windows of a text, each window on its own."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    largest: float = 0.0
    tokens: int = 0

    def read(self, window: Sequence[int], ours: Run, theirs: Run) -> None:
        """Run both over one window; logits of other shapes, that are not finite or of another model are refused."""
        mine, other = ours(window).float(), theirs(window).float()
        assert mine.shape == other.shape, f"logits of shape {tuple(mine.shape)} instead of {tuple(other.shape)}"
        assert torch.isfinite(mine).all(), "logits that are not finite"
        alike = torch.corrcoef(torch.stack([mine.flatten(), other.flatten()]))[0, 1]
        assert alike > 0.99, f"the logits correlate by {alike}: this is another model"
        self.ours.append(loss(mine, window))
        self.theirs.append(loss(other, window))
        self.largest = max(self.largest, float((mine - other).abs().max()))
        self.tokens += len(window)

    @property
    def perplexity(self) -> float:
        """By the other run."""
        return math.exp(sum(self.theirs) / len(self.theirs))

    @property
    def difference(self) -> Interval:
        """Relative difference of the perplexities with its 95 % interval over windows."""
        nats = paired_difference(self.theirs, self.ours)
        return Interval(math.expm1(nats.value), math.expm1(nats.low), math.expm1(nats.high))

    @property
    def size(self) -> Interval:
        """The difference without its sign."""
        signed = self.difference
        low, high = sorted((abs(signed.low), abs(signed.high)))
        return Interval(abs(signed.value), 0.0 if signed.straddles(0.0) else low, high)

    @property
    def tells(self) -> bool:
        """Whether the interval lies on one side of the target, so that the text is long enough for a verdict."""
        return self.size.high <= TARGET or self.size.low > TARGET
