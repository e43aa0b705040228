"""How far two ways of running one packed artefact agree on a text, and whether the text is long enough to tell.

Sums that differ in their last bit now and then round an activation to the next of its 255 steps, and such a step grows
through the layers: on a model of 30 layers the logits of two right decoders differ in their first digits, as those of
one library do when it only adds up in another order. How far is measured: the other run once more, rounded otherwise.
Averaged over a text that is noise around zero, a decoder that computes something else is off to one side. So the text
is read in windows, and the difference has an interval. What is too small to be told so is seen layer by layer, by
`suites.layer_agreement`.
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

DRIFT: Final = 4.0
"""How many times as far apart as another rounding sets one of the runs from itself the two may be: twice would be two
roundings, and sums round more often than each module's output does."""

Run = Callable[[Sequence[int]], Float[Tensor, "length vocabulary"]]


def loss(logits: Float[Tensor, "length vocabulary"], tokens: Sequence[int]) -> float:
    """Mean negative log-likelihood of each token given those before it, in nats and float64."""
    scores = logits[:-1].double().log_softmax(-1)
    return -float(scores.gather(-1, torch.tensor(tokens)[1:, None]).mean())


def mean_square(values: Float[Tensor, "*shape"]) -> float:
    """In float64."""
    return float(values.double().square().mean())


@dataclass
class Reading:
    """Two runs over the windows of a text, each window on its own."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    largest: float = 0.0
    tokens: int = 0
    apart: list[float] = field(default_factory=list)
    rounding: list[float] = field(default_factory=list)

    def read(self, window: Sequence[int], ours: Run, theirs: Run, rounded: Run | None = None) -> None:
        """Run both over one window; logits of other shapes or that are not finite are refused.

        `rounded` is the other run with every rounding its own, where how far that goes is to be measured as well.
        """
        mine, other = ours(window).float(), theirs(window).float()
        assert mine.shape == other.shape, f"logits of shape {tuple(mine.shape)} instead of {tuple(other.shape)}"
        assert torch.isfinite(mine).all(), "logits that are not finite"
        if rounded is not None:
            self.apart.append(mean_square(mine - other))
            self.rounding.append(mean_square(rounded(window).float() - other))
        self.ours.append(loss(mine, window))
        self.theirs.append(loss(other, window))
        self.largest = max(self.largest, float((mine - other).abs().max()))
        self.tokens += len(window)

    @property
    def drift(self) -> float:
        """How many times as far the two are apart as the other run is from itself with another rounding."""
        return math.sqrt(sum(self.apart) / sum(self.rounding))

    def hold_drift(self) -> None:
        """Fail where rounding does not account for how far the two are apart."""
        drift = self.drift
        assert drift <= DRIFT, f"the logits are {drift:.3g} times as far apart as rounding makes them: another model"

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
