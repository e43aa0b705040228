"""Recovery: a short training of the latent weights behind the codes, kept only as far as it helps.

Straight-through fine-tuning (Bengio et al. 2013; Ma et al. 2024, section 2) of a compressed model with MuGrokfast or
AdamW, on cross-entropy and divergence from the full-precision model (see `bitnet.distillation`). A loss on samples that
are not trained on selects the step whose weights are kept; the starting point is among the candidates, so that recovery
never returns a model that is worse by its own measure.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitnet.best_weights import BestWeights, SelectionPoint
from bitnet.bitlinear import BitLinear
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.distillation import RecoveryLoss, token_losses
from bitnet.errors import BitnetError
from bitnet.mugrokfast import MuGrokfast, NamedParameters, split_parameters
from bitnet.recovery_checkpoint import Checkpoints, Saved
from bitnet.recovery_modes import restricted
from bitnet.workers import Workers

#: The norm that a step's gradient, over all parameters together, is clipped to.
GRADIENT_NORM = 1.0
#: Evaluations for selection: one at the start and this many more, evenly spread, the last one after the last step.
SELECTIONS = 4
#: Newton-Schulz iterations of `torch.optim.Muon`.
_NEWTON_SCHULZ_STEPS = 5
#: Holds a Python float as it is.
_EXACT = torch.float64


@dataclass(frozen=True)
class TrainingPoint:
    """Step (from 1), loss of its batch before the update (nats a token), and its learning rate."""

    step: int
    loss: float
    learning_rate: float


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
    tokens: int
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
    teacher: PreTrainedModel | None = None,
    checkpoints: Checkpoints | None = None,
    workers: Workers | None = None,
) -> RecoveryReport:
    """Train `compressed`, in trainable form, in place.

    Batches go through the samples in an order that follows from `config.seed`, as do the random numbers of dropout; the
    caller's own are as before afterwards. A loss or gradient that is not finite ends the training; the best weights
    come back in any case.

    Args:
        samples: what is trained on.
        config: the settings of recovery, `batch_size` and `seed` are used.
        loss: the loss of the packed form of `compressed` as it is now, on other samples.
        progress: called with the steps done and the steps planned.
        teacher: the full-precision model, needed where the loss has a part for distillation.
        checkpoints: where the state is kept, and taken up again if it is that of the same run; None keeps none.
        workers: the processes that share the work, all of which call this with the same arguments; None is this alone.

    Raises:
        BitnetError: distillation without a teacher, or a checkpoint that is damaged.
    """
    workers = workers or Workers()
    workers.check(config)
    objective = RecoveryLoss(teacher, config.distillation, config.hidden_distillation)
    codes = _codes(compressed)
    with restricted(compressed, config.fine_tune_mode), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        tuner = _Tuner(compressed, samples, config, objective, loss, workers)
        tuner.run(progress, checkpoints)
        tuner.best.restore()
    flipped = sum(int((codes[name] != now).sum()) for name, now in _codes(compressed).items())
    looks = _spread(tuner.planned)
    return RecoveryReport(
        planned_steps=tuner.planned,
        steps=tuner.steps,
        best_step=tuner.best.step,
        epochs=tuner.samples / len(samples),
        tokens=tuner.samples * samples.shape[1],
        seconds=tuner.seconds,
        operations_per_step=tuner.operations,
        codes_flipped=flipped / max(1, sum(code.numel() for code in codes.values())),
        training=tuple(point for point in tuner.points if point.step in {1, *looks, tuner.steps}),
        selection=tuple(tuner.best.points),
        stopped=tuner.stopped,
    )


def planned_steps(config: Phase4Config, operations: float) -> int:
    """`fine_tune_steps`, or as many of them as `fine_tune_budget` pays for at `operations` a step."""
    if config.fine_tune_budget is None:
        return config.fine_tune_steps
    return min(config.fine_tune_steps, int(config.fine_tune_budget / operations))


def operations_per_step(model: nn.Module, hidden: NamedParameters, tokens: int, taught: bool = False) -> float:
    """Floating-point operations of one step on `tokens` tokens, to the leading terms.

    6 for each parameter and token, forward and backward (Kaplan et al. 2020, table 1, without attention), 2 more for
    the forward pass of a teacher of the same size, and for each hidden matrix, m its shorter and n its longer side,
    five Newton-Schulz iterations of 4 m^2 n + 2 m^3 (Jordan et al. 2024). The last part rules in short batches.
    """
    count = (8.0 if taught else 6.0) * tokens * sum(parameter.numel() for parameter in model.parameters())
    for _, matrix in hidden:
        m, n = sorted(matrix.shape)
        count += _NEWTON_SCHULZ_STEPS * (4.0 * m * m * n + 2.0 * m**3)
    return count


def computes_in_bfloat16(config: Phase4Config) -> bool:
    """Whether recovery runs under autocast to bfloat16, on this machine."""
    if config.fine_tune_dtype != "auto":
        return config.fine_tune_dtype == "bfloat16"
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def rate_factor(done: int, steps: int, warmup: int, decay: float) -> float:
    """What the learning rate is multiplied by after `done` of `steps` steps.

    It rises to 1 over the first `warmup` steps, the first of them moving already, and over the last share `decay` of
    all steps it falls linearly towards 0.
    """
    falling = (1.0 - done / steps) / decay if decay > 0 else 1.0
    return min(1.0, (done + 1) / max(1, warmup), falling)


@torch.no_grad()
def mean_loss(model: PreTrainedModel, samples: Int64[Tensor, "samples tokens"], batch_size: int) -> float:
    """Cross-entropy in nats of every token of every sample but the first, given what precedes it in its sample."""
    total = 0.0
    for batch in torch.split(samples, batch_size):
        total += float(token_losses(model(input_ids=batch, use_cache=False).logits, batch).double().sum())
    return total / (samples.numel() - len(samples))


class _Tuner:
    """The training and what it has gone through so far."""

    def __init__(
        self,
        compressed: CompressedModel,
        data: Int64[Tensor, "samples tokens"],
        config: Phase4Config,
        objective: RecoveryLoss,
        loss: Callable[[], float],
        workers: Workers,
    ) -> None:
        self.compressed, self.data, self.config, self.objective = compressed, data, config, objective
        self.workers = workers
        model = compressed.model
        muon = config.fine_tune_optimizer == "mugrokfast" and config.fine_tune_mode == "weights"
        self.optimizer = MuGrokfast.for_model(
            model,
            muon=muon,
            lr=config.fine_tune_lr,
            grokfast_alpha=config.grokfast_alpha,
            grokfast_lambda=config.grokfast_lambda,
        )
        self.parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        tokens = min(config.fine_tune_batch_size, len(data)) * data.shape[1]
        hidden = split_parameters(model).hidden if muon else []
        self.operations = operations_per_step(model, hidden, tokens, objective.teacher is not None)
        self.planned = planned_steps(config, self.operations)
        for parameter in self.parameters.values():
            parameter.data = workers.from_first(parameter.data)
        self.best = BestWeights(self.parameters, lambda: float(workers.from_first(torch.tensor(loss(), dtype=_EXACT))))
        self.steps = self.samples = 0
        self.seconds = 0.0
        self.points: list[TrainingPoint] = []
        self.stopped: str | None = None

    def run(self, progress: Callable[[int, int], None] | None, checkpoints: Checkpoints | None) -> None:
        """Train to the end, from a checkpoint where there is one."""
        saved = None if checkpoints is None else checkpoints.load()
        if saved is None:
            self.best.consider(0)
        else:
            self._resume(saved)
        looks = _spread(self.planned)
        batches = _batches(self.data, self.config.fine_tune_batch_size, self.config.seed)
        with self._training():
            for batch in itertools.islice(batches, self.steps, self.planned):
                started = time.perf_counter()
                if not self._step(batch):
                    break
                if progress is not None:
                    progress(self.steps, self.planned)
                if self.steps in looks:
                    self.best.consider(self.steps)
                self.seconds += time.perf_counter() - started
                if self.best.stale(self.config.fine_tune_patience):
                    self.stopped = f"no improvement in {self.config.fine_tune_patience} evaluations"
                    break
                if checkpoints is not None and self._worth_saving(checkpoints):
                    if self.workers.first:
                        checkpoints.save(self._state())
                    self.workers.wait()

    def _worth_saving(self, checkpoints: Checkpoints) -> bool:
        """At every interval, and after the end of all but the shortest training: a later stage may be killed too."""
        ended = self.steps == self.planned and self.planned > checkpoints.every
        return ended or checkpoints.due(self.steps)

    @contextlib.contextmanager
    def _training(self) -> Iterator[None]:
        """Dropout is on if it is asked for, and afterwards everything is quantized in full again."""
        model = self.compressed.model
        before = model.training
        model.train(self.config.fine_tune_dropout)
        try:
            yield
        finally:
            model.train(before)
            self._quantize_by(1.0)

    def _step(self, batch: Int64[Tensor, "batch tokens"]) -> bool:
        """One update; False, with the reason in `stopped`, where the loss or the gradient is not finite."""
        config = self.config
        if config.gradual_quantization > 0:
            self._quantize_by(min(1.0, (self.steps + 1) / (config.gradual_quantization * self.planned)))
        self.optimizer.zero_grad()
        loss, reason = self._backward(batch)
        if self.workers.any(reason is not None):
            return self._stop(reason or "another process has stopped")
        loss = float(self.workers.sum(torch.tensor(loss, dtype=_EXACT)))
        self.workers.add_gradients(self.parameters.values())
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.parameters.values(), GRADIENT_NORM)):
            return self._stop(f"the gradient of step {self.steps + 1} is not finite")
        rate = config.fine_tune_lr * rate_factor(self.steps, self.planned, config.warmup_steps, config.fine_tune_decay)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.steps += 1
        self.samples += len(batch)
        self.points.append(TrainingPoint(self.steps, loss, rate))
        return True

    def _backward(self, batch: Int64[Tensor, "batch tokens"]) -> tuple[float, str | None]:
        """This process's part of a batch's loss, its gradients left behind, or the reason why there is none."""
        loss = 0.0
        for part in torch.split(self.workers.share(batch), self.config.batch_size):
            if not len(part):
                continue
            try:
                share = self._loss(part) * (len(part) / len(batch))
            except BitnetError as error:  # a latent weight that cannot be quantized any more
                return loss, str(error)
            if not torch.isfinite(share):
                return loss, f"the loss of step {self.steps + 1} is not finite"
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.item()
        return loss, None

    def _loss(self, part: Int64[Tensor, "batch tokens"]) -> Tensor:
        narrow = computes_in_bfloat16(self.config)
        with torch.autocast(part.device.type, torch.bfloat16, enabled=narrow):
            return self.objective(self.compressed.model, part)

    def _quantize_by(self, share: float) -> None:
        for layer in self.compressed.layers.values():
            if isinstance(layer, BitLinear):
                layer.quantized_share = share

    def _stop(self, reason: str) -> bool:
        self.stopped = reason
        return False

    def _state(self) -> Saved:
        """Everything that the next step depends on."""
        optimizer = self.optimizer.state_dict()
        ternary = {name: layer.ternary() for name, layer in self.compressed.layers.items()}
        tensors: dict[str, Mapping[str, Tensor]] = {
            "weights": self.parameters,
            "best": self.best.kept,
            "optimizer": {
                f"{name}/{key}": v for name, values in optimizer["state"].items() for key, v in values.items()
            },
            "codes": {name: weight.codes for name, weight in ternary.items()},
            "scales": {name: weight.scale for name, weight in ternary.items()},
            "random": {"torch": torch.get_rng_state()},
        }
        figures = {
            "steps": self.steps,
            "samples": self.samples,
            "seconds": self.seconds,
            "points": [asdict(point) for point in self.points],
            "best": self.best.figures(),
            "groups": optimizer["param_groups"],
        }
        return Saved(tensors, figures)

    def _resume(self, saved: Saved) -> None:
        """Go on from `_state`.

        Raises:
            BitnetError: the checkpoint's weights do not quantize to its codes.
        """
        figures = saved.figures
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(saved.tensors["weights"][name])
        for name, layer in self.compressed.layers.items():
            ternary = layer.ternary()
            same = torch.equal(ternary.codes, saved.tensors["codes"][name])
            if not same or not torch.equal(ternary.scale, saved.tensors["scales"][name]):
                raise BitnetError(f"the checkpoint's weights of '{name}' have other codes now: delete the checkpoint.")
        state: dict[str, dict[str, Tensor]] = {}
        for name, tensor in saved.tensors["optimizer"].items():
            parameter_name, _, key = name.rpartition("/")
            state.setdefault(parameter_name, {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": figures["groups"]})
        self.best.load(figures["best"], saved.tensors["best"])
        self.steps, self.samples, self.seconds = figures["steps"], figures["samples"], figures["seconds"]
        self.points = [TrainingPoint(**point) for point in figures["points"]]
        torch.set_rng_state(saved.tensors["random"]["torch"])


def _batches(samples: Int64[Tensor, "samples tokens"], size: int, seed: int) -> Iterator[Int64[Tensor, "batch tokens"]]:
    """Epoch after epoch without end, each in its own order and complete; its last batch may be smaller."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.split(torch.randperm(len(samples), generator=generator), size):
            yield samples[chosen]


def _spread(steps: int) -> frozenset[int]:
    """The steps after which selection looks."""
    return frozenset(-(-steps * part // SELECTIONS) for part in range(1, SELECTIONS + 1))


def _codes(compressed: CompressedModel) -> dict[str, Tensor]:
    return {name: layer.ternary().codes for name, layer in compressed.layers.items()}
