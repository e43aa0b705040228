"""Recovery: a short training of the latent weights behind the codes, kept only as far as it helps.

Straight-through fine-tuning (Bengio et al. 2013; Ma et al. 2024, section 2) of a compressed model on calibration
samples with MuGrokfast. Samples that are not trained on select the step whose weights are kept; the starting point is
among the candidates, so that recovery never returns a model that is worse by its own measure.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int8, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.mugrokfast import MuGrokfast, NamedParameters, split_parameters

#: The norm that a step's gradient, over all parameters together, is clipped to.
GRADIENT_NORM = 1.0
#: Evaluations for selection: one at the start and this many more, evenly spread, the last one after the last step.
SELECTIONS = 4
#: Of so many samples one is for selection, but never more than the second figure: selection costs time.
HELD_OUT_EVERY, HELD_OUT_AT_MOST = 10, 16
#: Newton-Schulz iterations of `torch.optim.Muon`.
_NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class TrainingPoint:
    """Step (from 1), cross-entropy of its batch before the update (nats a token), and its learning rate."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class SelectionPoint:
    """Loss of the packed form after so many steps, on the samples for selection; None where it is not finite."""

    step: int
    loss: float | None


@dataclass(frozen=True)
class RecoveryReport:
    """What recovery did.

    `planned_steps` is `fine_tune_steps`, cut to what `fine_tune_budget` pays for; `steps` were taken, `best_step` of
    them are kept (0: the starting point). `codes_flipped` is the fraction of the quantized weights whose kept code is
    another than at the start. `stopped` says why training ended early, None where it did not. `training` holds the
    steps before and after which selection looked.
    """

    planned_steps: int
    steps: int
    best_step: int
    epochs: float
    seconds: float
    operations_per_step: float
    codes_flipped: float
    training: tuple[TrainingPoint, ...]
    selection: tuple[SelectionPoint, ...]
    stopped: str | None


def recover(
    compressed: CompressedModel,
    samples: Int64[Tensor, "samples tokens"],
    config: Phase4Config,
    loss: Callable[[], float],
    progress: Callable[[int, int], None] | None = None,
) -> RecoveryReport:
    """Train `compressed`, in trainable form, in place.

    Batches go through the samples in an order that follows from `config.seed`, dropout stays off, and no other random
    number is drawn. A loss or gradient that is not finite ends the training; the best weights come back in any case.

    Args:
        samples: what is trained on.
        config: `fine_tune_*`, `warmup_steps`, `grokfast_*`, `batch_size` and `seed` are used.
        loss: the loss of the packed form of `compressed` as it is now, on other samples.
        progress: called with the steps done and the steps planned.
    """
    started = time.perf_counter()
    split = split_parameters(compressed.model)
    operations = operations_per_step(compressed.model, split.hidden, config.batch_size * samples.shape[1])
    steps = planned_steps(config, operations)
    optimizer = MuGrokfast(
        *split, lr=config.fine_tune_lr, grokfast_alpha=config.grokfast_alpha, grokfast_lambda=config.grokfast_lambda
    )
    codes = _codes(compressed)
    best = _Best([parameter for _, parameter in (*split.hidden, *split.rest)], loss)
    training = _Training(compressed.model, optimizer, config.warmup_steps)
    best.consider(0)
    looks = _spread(steps)
    for batch in itertools.islice(_batches(samples, config.batch_size, config.seed), steps):
        if not training.step(batch):
            break
        if progress is not None:
            progress(training.steps, steps)
        if training.steps in looks:
            best.consider(training.steps)
    best.restore()
    flipped = sum(int((codes[name] != now).sum()) for name, now in _codes(compressed).items())
    return RecoveryReport(
        planned_steps=steps,
        steps=training.steps,
        best_step=best.step,
        epochs=training.samples / len(samples),
        seconds=time.perf_counter() - started,
        operations_per_step=operations,
        codes_flipped=flipped / sum(code.numel() for code in codes.values()),
        training=tuple(point for point in training.points if point.step in {1, *looks, training.steps}),
        selection=tuple(best.points),
        stopped=training.stopped,
    )


def hold_out(
    samples: Int64[Tensor, "samples tokens"],
) -> tuple[Int64[Tensor, "training tokens"], Int64[Tensor, "selection tokens"]]:
    """Samples to train on and, from their end, those to select by; a single sample is left for selection."""
    count = min(max(1, len(samples) // HELD_OUT_EVERY), HELD_OUT_AT_MOST)
    return samples[:-count], samples[-count:]


def planned_steps(config: Phase4Config, operations: float) -> int:
    """`fine_tune_steps`, or as many of them as `fine_tune_budget` pays for at `operations` a step."""
    if config.fine_tune_budget is None:
        return config.fine_tune_steps
    return min(config.fine_tune_steps, int(config.fine_tune_budget / operations))


def operations_per_step(model: nn.Module, hidden: NamedParameters, tokens: int) -> float:
    """Floating-point operations of one step on `tokens` tokens, to the leading terms.

    6 for each parameter and token, forward and backward (Kaplan et al. 2020, table 1, without attention), and for each
    hidden matrix, m its shorter and n its longer side, five Newton-Schulz iterations of 4 m^2 n + 2 m^3 (Jordan et
    al. 2024). The second part rules in short batches.
    """
    count = 6.0 * tokens * sum(parameter.numel() for parameter in model.parameters())
    for _, matrix in hidden:
        m, n = sorted(matrix.shape)
        count += _NEWTON_SCHULZ_STEPS * (4.0 * m * m * n + 2.0 * m**3)
    return count


@torch.no_grad()
def mean_loss(model: PreTrainedModel, samples: Int64[Tensor, "samples tokens"], batch_size: int) -> float:
    """Cross-entropy in nats of every token of every sample but the first, given what precedes it in its sample."""
    total = 0.0
    for batch in torch.split(samples, batch_size):
        total += float(_next_token_loss(model, batch, "none").double().sum())
    return total / (samples.numel() - len(samples))


class _Training:
    """The loop's body and what it has gone through so far."""

    def __init__(self, model: PreTrainedModel, optimizer: MuGrokfast, warmup: int) -> None:
        self.model, self.optimizer = model, optimizer
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # The rate of step s (from 1) is s / warmup of the full one, so that the first step already moves something.
        self.scheduler = LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / max(1, warmup)))
        self.steps = self.samples = 0
        self.points: list[TrainingPoint] = []
        self.stopped: str | None = None

    def step(self, batch: Int64[Tensor, "batch tokens"]) -> bool:
        """One update; False, with the reason in `stopped`, where the loss or the gradient is not finite."""
        try:
            loss = _next_token_loss(self.model, batch, "mean")
        except BitnetError as error:  # a latent weight that cannot be quantized any more
            return self._stop(str(error))
        if not torch.isfinite(loss):
            return self._stop(f"the loss of step {self.steps + 1} is not finite")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.parameters, GRADIENT_NORM)):
            return self._stop(f"the gradient of step {self.steps + 1} is not finite")
        self.points.append(TrainingPoint(self.steps + 1, loss.item(), float(self.scheduler.get_last_lr()[0])))
        self.optimizer.step()
        self.scheduler.step()
        self.steps += 1
        self.samples += len(batch)
        return True

    def _stop(self, reason: str) -> bool:
        self.stopped = reason
        return False


class _Best:
    """The weights with the lowest loss seen so far, the first of equals; those at the start are seen first."""

    def __init__(self, parameters: list[nn.Parameter], loss: Callable[[], float]) -> None:
        self._parameters, self._loss = parameters, loss
        self._kept = [parameter.detach().clone() for parameter in parameters]
        self._lowest = math.inf
        self.step = 0
        self.points: list[SelectionPoint] = []

    def consider(self, step: int) -> None:
        """Measure the weights as they are after `step` steps and keep them if they are the best."""
        loss = math.inf
        with contextlib.suppress(BitnetError):  # weights that cannot be stored or run are no candidate
            loss = self._loss()
        self.points.append(SelectionPoint(step, loss if math.isfinite(loss) else None))
        if loss < self._lowest:
            self._lowest, self.step = loss, step
            for kept, parameter in zip(self._kept, self._parameters, strict=True):
                kept.copy_(parameter.detach())

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back, and drop the gradients of the last ones."""
        for kept, parameter in zip(self._kept, self._parameters, strict=True):
            parameter.copy_(kept)
            parameter.grad = None


def _next_token_loss(model: PreTrainedModel, batch: Int64[Tensor, "batch tokens"], reduction: str) -> Tensor:
    logits: Tensor = model(input_ids=batch, use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten(), reduction=reduction)


def _batches(samples: Int64[Tensor, "samples tokens"], size: int, seed: int) -> Iterator[Int64[Tensor, "batch tokens"]]:
    """Epoch after epoch without end, each in its own order and complete; its last batch may be smaller."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.split(torch.randperm(len(samples), generator=generator), size):
            yield samples[chosen]


def _spread(steps: int) -> frozenset[int]:
    """The steps after which selection looks."""
    return frozenset(-(-steps * part // SELECTIONS) for part in range(1, SELECTIONS + 1))


def _codes(compressed: CompressedModel) -> dict[str, Int8[Tensor, "out in"]]:
    return {name: layer.ternary().codes for name, layer in compressed.layers.items()}
