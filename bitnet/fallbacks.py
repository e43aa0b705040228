"""What is tried when the gates of quality are missed, in this order, as long as `max_minutes` lasts.

1. Longer recovery, where recovery has helped and its steps ran out.
2. More planes for the layers where they save most loss per bit, within `bits_budget` (with compensation only).
3. Those layers in half precision whose error costs most.
4. Nothing: the best attempt goes on, and its gates say that it failed.

Each step is named in the result, with what it did or why it did not run. Which steps fit into the time depends on the
machine, and is kept for the same run after an interruption; everything else is decided by what was measured.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bitnet.compressed_model import CompressedModel
from bitnet.compressor import Compression, compress
from bitnet.deadline import Deadline
from bitnet.layer_store import TernaryLayer
from bitnet.memory import give_back
from bitnet.perplexity import PerplexityResult
from bitnet.phase_state import Calibration, Recovery, Run
from bitnet.progress import Advance
from bitnet.quality import relative_drop, relative_increase
from bitnet.result import AttemptRow, FallbackRow
from bitnet.sensitivity import GRADIENT_SAMPLES, Cost, assign_planes, costs, most_sensitive, output_gradients

#: The predicted loss is aimed at this share of what the gate allows: predictions are rough, and planes win nothing back
#: of what int8 activations cost.
AIM = 0.8
#: Share of the weights, as bits of one plane, that may be kept in half precision.
LARGEST_KEPT = 0.1
#: Trains a compressed model if its figures call for it.
Recover = Callable[[Run, Compression, PerplexityResult], Recovery]
#: Measures a model on the evaluation text.
Evaluate = Callable[[CompressedModel], PerplexityResult]


@dataclass(frozen=True)
class Attempt:
    """One way through compression and recovery: what it is called, and its figures before and after recovery.

    `layers` is what compensation has found, None without it; of the models it keeps the recovered one alone.
    """

    name: str
    run: Run
    layers: Mapping[str, TernaryLayer] | None
    after: PerplexityResult
    recovery: Recovery

    @property
    def final(self) -> PerplexityResult:
        """Quality of the model that the attempt ends with."""
        return self.recovery.figures or self.after

    @property
    def won(self) -> float:
        """What recovery took off the loss, in nats a token."""
        won = math.log(self.after.token_perplexity) - math.log(self.final.token_perplexity)
        return won if math.isfinite(won) else 0.0

    @property
    def row(self) -> AttemptRow:
        """The record of the attempt."""
        planes = [layer.shape[0] for layer in (self.layers or {}).values()]
        return AttemptRow(
            name=self.name,
            token_perplexity=self.final.token_perplexity if math.isfinite(self.final.token_perplexity) else None,
            next_token_accuracy=self.final.next_token_accuracy,
            layers_by_planes={count: planes.count(count) for count in sorted(set(planes))},
        )


class Chain:
    """Takes one step after another until an attempt passes the gates of quality; keeps the best."""

    def __init__(
        self, before: PerplexityResult, calibration: Calibration, work: Path, recover: Recover, evaluate: Evaluate
    ) -> None:
        """Args: `before`, the full-precision model's figures; `work`, see `compress`; how to recover and evaluate."""
        self._before, self._calibration, self._work = before, calibration, work
        self._recover, self._evaluate = recover, evaluate
        self.rows: list[FallbackRow] = []
        self.attempts: list[AttemptRow] = []

    def follow(self, first: Attempt, deadline: Deadline, progress: Advance) -> Attempt:
        """The best attempt, `first` among them; no step starts after the deadline."""
        best, latest = first, first
        self.attempts.append(first.row)
        steps = (self._longer_recovery, self._more_planes, self._more_planes, self._half_precision)
        for step in steps:
            if self.passes(best):
                return best
            if deadline.over():
                self._skip("fallback chain", "max_minutes are over")
                return best
            made = step(latest, progress)
            if made is not None:
                latest = made
                self.attempts.append(made.row)
                best = min(best, made, key=lambda attempt: attempt.final.token_perplexity)
        if not self.passes(best):
            self._skip("fallback chain", f"no step is left; the best attempt goes on: {best.name}")
        return best

    def passes(self, attempt: Attempt) -> bool:
        """Whether an attempt passes the gates of quality."""
        limit = attempt.run.config.max_accuracy_drop
        increase = relative_increase(self._before.token_perplexity, attempt.final.token_perplexity)
        drop = relative_drop(self._before.next_token_accuracy, attempt.final.next_token_accuracy)
        return all(change is not None and change <= limit for change in (increase, drop))

    def _longer_recovery(self, latest: Attempt, _: Advance) -> Attempt | None:
        report = latest.recovery.report
        if report is None or report.best_step < report.steps or report.stopped is not None:
            self._skip("longer recovery", "recovery did not run, or its last step was not its best")
            return None
        config = latest.run.config
        budget = None if config.fine_tune_budget is None else 2 * config.fine_tune_budget
        longer = {"fine_tune_steps": 2 * config.fine_tune_steps, "fine_tune_budget": budget}
        run = replace(latest.run, config=config.model_copy(update=longer))
        made = Compression(latest.recovery.packed, latest.layers)
        name = f"longer recovery ({longer['fine_tune_steps']} steps)"
        self._take("longer recovery", name)
        return Attempt(name, run, latest.layers, latest.final, self._recover(run, made, latest.final))

    def _more_planes(self, latest: Attempt, progress: Advance) -> Attempt | None:
        candidates = self._costs(latest)
        if candidates is None:
            self._skip("more planes", "without compensation nothing is known of the layers' errors")
            return None
        config, factor = latest.run.config, self._factor(latest, candidates)
        if config.bits_budget is None:
            self._skip("more planes", "bits_budget is null")
            return None
        assert latest.layers is not None
        weights = sum(math.prod(layer.shape[1:]) for layer in latest.layers.values())
        # What recovery has won it can be expected to win again.
        allowed = (AIM * math.log1p(config.max_accuracy_drop) + latest.won) / factor
        planes = assign_planes(candidates, allowed, config.bits_budget * weights)
        now = {name: cost.planes for name, cost in candidates.items()}
        # Where the prediction falls short of the truth no layer is lowered again.
        planes = {name: max(count, now[name]) for name, count in planes.items()}
        if planes == now:
            self._skip("more planes", "bits_budget pays for no more planes")
            return None
        bits = sum(candidates[name].bits_per_plane * count for name, count in planes.items()) / weights
        return self._again("more planes", f"more planes ({bits:.2f} bits a weight)", latest, planes, progress)

    def _half_precision(self, latest: Attempt, progress: Advance) -> Attempt | None:
        candidates = self._costs(latest)
        if candidates is None:
            self._skip("half precision", "without compensation nothing is known of the layers' errors")
            return None
        allowed = AIM * math.log1p(latest.run.config.max_accuracy_drop) / self._factor(latest, candidates)
        kept = most_sensitive(candidates, allowed, LARGEST_KEPT)
        planes = {name: cost.planes for name, cost in candidates.items() if name not in kept}
        name = f"half precision for {len(kept)} layers"
        return self._again("half precision", name, latest, planes, progress)

    def _again(self, step: str, name: str, latest: Attempt, planes: Mapping[str, int], progress: Advance) -> Attempt:
        self._take(step, name)
        give_back()
        made = compress(latest.run, self._calibration, self._work, progress, planes)
        after = self._evaluate(made.packed)
        return Attempt(name, latest.run, made.layers, after, self._recover(latest.run, made, after))

    def _costs(self, attempt: Attempt) -> dict[str, Cost] | None:
        text, layers, config = self._calibration.compensation, attempt.layers, attempt.run.config
        if text is None or layers is None:
            return None
        gradients = output_gradients(attempt.run.loaded.model, list(layers), text.tokens[:GRADIENT_SAMPLES])
        return costs(layers, gradients, config.codec, config.scale_dtype)

    def _factor(self, attempt: Attempt, candidates: Mapping[str, Cost]) -> float:
        """What the predicted loss has to be multiplied by to be the measured one, straight after compression."""
        increase = relative_increase(self._before.token_perplexity, attempt.after.token_perplexity)
        predicted = sum(cost.loss for cost in candidates.values())
        if increase is None or not increase > 0 or not predicted > 0:
            return 1.0
        return math.log1p(increase) / predicted

    def _take(self, step: str, name: str) -> None:
        self.rows.append(FallbackRow(step=step, used=name, reason="the attempt before missed a gate of quality"))

    def _skip(self, step: str, reason: str) -> None:
        self.rows.append(FallbackRow(step=step, used="none", reason=reason))
