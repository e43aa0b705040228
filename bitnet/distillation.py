"""What recovery minimises: cross-entropy with the text, and divergence from the full-precision model.

loss = (1 - d) CE + d KL(teacher || student) + h H, all per token and in nats but for H, where

* CE is the cross-entropy of every token but the first of its sample, given what precedes it;
* KL runs over every position, at temperature 1 (Hinton et al. 2015; Liu et al. 2023, "LLM-QAT", section 2.2);
* H compares hidden states: the squared difference over the teacher's own square, averaged over the decoder blocks, as
  the loss on intermediate layers of Jiao et al. 2020, "TinyBERT", but free of the states' scale.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import PreTrainedModel

from bitnet.errors import BitnetError

#: Positions whose distributions are compared at once.
POSITIONS = 64


@dataclass(frozen=True)
class RecoveryLoss:
    """The loss described above.

    `distillation` is d, from 0 to 1, and `hidden` is h, from 0; without a teacher both must be 0.
    """

    teacher: PreTrainedModel | None = None
    distillation: float = 0.0
    hidden: float = 0.0

    def __post_init__(self) -> None:
        if self.teacher is None and self._teaches:
            raise BitnetError("distillation needs the full-precision model; give it, or set distillation to 0.")

    @property
    def _teaches(self) -> bool:
        return self.distillation > 0 or self.hidden > 0

    def __call__(self, student: PreTrainedModel, batch: Int64[Tensor, "batch tokens"]) -> Float[Tensor, ""]:
        """The loss of `student` on `batch`."""
        deep = self.hidden > 0
        taught = None
        if self.teacher is not None and self._teaches:  # before the student's graph takes its memory
            with torch.no_grad():
                taught = self.teacher(input_ids=batch, use_cache=False, output_hidden_states=deep)
        output = student(input_ids=batch, use_cache=False, output_hidden_states=deep)
        loss: Tensor = output.logits.new_zeros((), dtype=torch.float32)
        if self.distillation < 1:
            loss = loss + (1 - self.distillation) * token_losses(output.logits, batch).mean()
        if taught is None:
            return loss
        if self.distillation > 0:
            loss = loss + self.distillation * divergence(output.logits, taught.logits)
        if deep:
            loss = loss + self.hidden * state_distance(output.hidden_states[1:], taught.hidden_states[1:])
        return loss


def token_losses(
    logits: Float[Tensor, "batch tokens vocabulary"], batch: Int64[Tensor, "batch tokens"]
) -> Float[Tensor, "scored"]:
    """Cross-entropy in nats of every token but the first of each sample, in float32."""
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="none")


def divergence(
    student: Float[Tensor, "batch tokens vocabulary"], teacher: Float[Tensor, "batch tokens vocabulary"]
) -> Float[Tensor, ""]:
    """KL(teacher || student) in nats, averaged over the positions; gradients reach `student` alone."""
    result: Tensor = _Divergence.apply(student.flatten(0, 1), teacher.flatten(0, 1))  # type: ignore[no-untyped-call]
    return result


class _Divergence(torch.autograd.Function):
    """Works through the positions bit by bit, and keeps the gradient by the student's logits and nothing else.

    Autograd would keep both logarithms and make several more arrays of that size, each a large vocabulary wide.
    """

    @staticmethod
    def forward(ctx: Any, student: Float[Tensor, "n vocabulary"], teacher: Float[Tensor, "n vocabulary"]) -> Tensor:
        total = student.new_zeros((), dtype=torch.promote_types(student.dtype, torch.float32))
        # d KL / d logits = (softmax(student) - softmax(teacher)) / positions
        gradient = torch.empty_like(student)
        parts = (torch.split(tensor, POSITIONS) for tensor in (student, teacher, gradient))
        for ours, theirs, slope in zip(*parts, strict=True):
            learned, taught = (log_softmax(logits.to(total.dtype), dim=-1) for logits in (ours, theirs))
            total += kl_div(learned, taught, reduction="sum", log_target=True)
            slope.copy_(learned.exp_().sub_(taught.exp_()).div_(len(student)))
        ctx.save_for_backward(gradient)
        return total / len(student)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, ""]) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient, None


def state_distance(
    student: tuple[Float[Tensor, "batch tokens width"], ...], teacher: tuple[Float[Tensor, "batch tokens width"], ...]
) -> Float[Tensor, ""]:
    """Squared difference of hidden states over the teacher's square, averaged over the blocks."""
    parts = [
        (ours.float() - theirs.float()).square().sum() / theirs.float().square().sum()
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(parts).mean()
