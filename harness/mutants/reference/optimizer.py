"""Subjects with a filtered Muon of their own: the right one, or one with a mistake that real code has made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from harness.subject import Declaration, OptimizerRecipe, WeightVariant

QK_CLIP = 0.2
RECIPE = OptimizerRecipe(momentum=0.9, update_scale="original", betas=(0.8, 0.99), eps=1e-7, qk_clip=QK_CLIP)
VARIANT = WeightVariant("sign", "tensor", None, None, "at_least", "absmean", second_moment=False)
QUINTIC, CUBIC = (3.4445, -4.7750, 2.0315), (1.5, -0.5, 0.0)


class OwnOptimizer(Optimizer):
    """Everything in one step function, in the precision of the parameters."""

    def __init__(self, model: nn.Module, lr: float, alpha: float, lam: float, decay: float, defect: str) -> None:
        self.alpha, self.lam, self.decay, self.defect, self.first_lr = alpha, lam, decay, defect, lr
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        if hasattr(model, "get_output_embeddings"):
            tables.append(cast("Any", model).get_output_embeddings())
        vectors_only = defect == "Muon for every matrix"
        outside = set() if vectors_only else {id(p) for table in tables for p in table.parameters()}
        config: Any = getattr(model, "config", None)
        groups = []
        for name, parameter in model.named_parameters():
            hidden = parameter.ndim == 2 and id(parameter) not in outside and defect != "AdamW for everything"
            head = config.head_dim if name.endswith(("q_proj.weight", "k_proj.weight")) else None
            if not (defect == "biases left out" and name.endswith("bias")):
                groups.append({"params": [parameter], "hidden": hidden, "head": head, "tied": parameter is tied(model)})
        super().__init__(groups, {"lr": lr})

    @override
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (parameter,) = group["params"]
            if parameter.grad is None:
                continue
            repeats = 2 if group["tied"] and self.defect == "tied parameters updated twice" else 1
            for _ in range(repeats):
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                through_gradient = self.defect == "decay through the gradient"
                gradient = self.filter(parameter.grad + self.decay * parameter * through_gradient, state)
                update = self.muon(gradient, state, group) if group["hidden"] else self.adamw(gradient, state)
                if not through_gradient and (group["hidden"] or self.defect != "decay of the matrices alone"):
                    parameter *= 1 - self.rate(group) * self.decay
                parameter -= self.rate(group) * update
                if self.defect == "weights become codes" and group["hidden"] and parameter.abs().max() > 0:
                    parameter.copy_(parameter.sign() * parameter.abs().mean())

    def rate(self, group: dict[str, Any]) -> float:
        """The learning rate of a parameter."""
        ignored = self.defect == "rate fixed at the start"
        ignored |= self.defect == "rate of the hidden matrices alone" and not group["hidden"]
        return self.first_lr if ignored else float(group["lr"])

    def filter(self, gradient: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        """The gradient with its moving average."""
        first = gradient if self.defect == "average starts at the gradient" else torch.zeros_like(gradient)
        average: torch.Tensor = self.alpha * state.get("average", first) + (1 - self.alpha) * gradient
        state["average"] = average
        if self.defect == "no filter":
            return gradient
        if self.defect == "average for the gradient":
            return self.lam * average if self.lam else gradient
        return gradient + self.lam * average

    def muon(self, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        """The update of a hidden matrix."""
        momentum = RECIPE.momentum
        state["velocity"] = momentum * state.get("velocity", torch.zeros_like(gradient)) + gradient
        ahead = state["velocity"] if self.defect == "no look-ahead" else gradient + momentum * state["velocity"]
        out, width = gradient.shape
        scale = math.sqrt(width if self.defect == "scale of the wrong side" else max(1, out / width))
        return self.clip(scale * self.orthogonalise(ahead), group["head"])

    def orthogonalise(self, x: torch.Tensor) -> torch.Tensor:
        """Five quintic Newton-Schulz steps."""
        if self.defect == "tall matrices not orthogonalised" and x.shape[0] > x.shape[1]:
            shrunk: torch.Tensor = x / x.norm() * math.sqrt(min(x.shape))
            return shrunk
        a, b, c = CUBIC if self.defect == "cubic steps" else QUINTIC
        x = x if self.defect == "gradient not normalised" else x / x.norm()
        for _ in range(4 if self.defect == "four steps" else 5):
            product = x @ x.T
            x = a * x + (b * product + c * product @ product) @ x
        return x

    def clip(self, update: torch.Tensor, head: int | None) -> torch.Tensor:
        """The update of a query or key projection, clipped per head."""
        if head is None or self.defect == "no clip":
            return update
        heads = update.reshape(-1, head * update.shape[1])
        shrink = (QK_CLIP / heads.square().mean(dim=1, keepdim=True).sqrt()).clamp(max=1)
        return (heads * shrink).reshape(update.shape)

    def adamw(self, gradient: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        """AdamW's update."""
        (beta1, beta2), step = RECIPE.betas, state["step"]
        state["first"] = beta1 * state.get("first", 0) + (1 - beta1) * gradient
        state["second"] = beta2 * state.get("second", 0) + (1 - beta2) * gradient**2
        correction = 1 if self.defect == "moments not corrected" else 1 - beta1**step
        update: torch.Tensor = state["first"] / correction / ((state["second"] / (1 - beta2**step)).sqrt() + RECIPE.eps)
        return update


def tied(model: Any) -> Any:
    """The weight that a head shares with its embedding."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return head.weight if head is not None and getattr(model, "config", None) is not None else None


class SignLinear(nn.Linear):
    """Signs times their mean magnitude, gradients straight through."""

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signs = self.weight.sign() * self.weight.abs().mean()
        return nn.functional.linear(x, self.weight + (signs - self.weight).detach())


@dataclass(frozen=True)
class OptimizerSubject:
    """Has at most one ``defect``; "" is right."""

    defect: str = ""
    optimizer_recipe = RECIPE

    @property
    def declaration(self) -> Declaration:
        """What the suites hold it to."""
        return Declaration(name=f"optimizer {self.defect or 'as defined'}", version="1", variants=(VARIANT,))

    def optimizer(self, model: Any, lr: float, alpha: float, lam: float, weight_decay: float = 0.0) -> OwnOptimizer:
        """See `harness.subject.Optimizes`."""
        return OwnOptimizer(model, lr, alpha, lam, weight_decay, self.defect)

    def training_linear(
        self, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant, quantize: bool = True
    ) -> nn.Module:
        """See `harness.subject.TrainsLinear`."""
        layer = SignLinear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data = weight.clone()
        return layer
