"""MuGrokfast: a Grokfast gradient filter in front of Muon (hidden matrices) and AdamW (everything else).

Each step, for every parameter with gradient g:

    mu <- alpha mu + (1 - alpha) g      (from zeros)
    g' = g + lambda mu

and then `torch.optim.Muon` or `torch.optim.AdamW` sees g' in place of g. The filter passes a constant gradient with
gain 1 + lambda and one that alternates in sign with gain 1 + lambda (1 - alpha) / (1 + alpha). At last the updates that
Muon has applied to query and key projections are clipped, head by head (see `bitnet.qk_clip`).

On a ternary model the parameters are the latent float weights behind the codes, which the straight-through
estimator gives their gradients.

Sources: Lee et al. 2024, "Grokfast", algorithm 2 (EMA filter); Jordan et al. 2024, "Muon"; Liu et al. 2025, "Muon is
Scalable for LLM Training", equation 4 (update size matched to AdamW, so that one learning rate serves both).
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from bitnet.errors import BitnetError
from bitnet.qk_clip import Heads, clip_update_, query_key_heads

NamedParameters = list[tuple[str, nn.Parameter]]

#: Root mean square that Muon's updates are matched to, in units of the learning rate (Liu et al. 2025, section 2.2).
UPDATE_RMS = 0.2

_EMA = "grokfast_ema"


class ParameterSplit(NamedTuple):
    """Parameters by optimizer; each parameter appears once, under its first name."""

    hidden: NamedParameters
    """Two-dimensional weights inside the model, for Muon."""
    rest: NamedParameters
    """Embeddings, output head, norms and biases, for AdamW."""


def split_parameters(model: nn.Module) -> ParameterSplit:
    """Trainable parameters of `model`, split by what they are and not by what they are called.

    Embeddings are the parameters of `nn.Embedding` modules; the head is what a transformers model names as its output
    embeddings. Tied parameters follow the embedding.
    """
    tables: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    get_head = getattr(model, "get_output_embeddings", None)
    head = get_head() if get_head is not None else None
    if isinstance(head, nn.Module):
        tables.append(head)
    outside = {id(parameter) for module in tables for parameter in module.parameters()}
    split = ParameterSplit([], [])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hidden = parameter.ndim == 2 and id(parameter) not in outside
            (split.hidden if hidden else split.rest).append((name, parameter))
    return split


class MuGrokfast(Optimizer):
    """The optimizer described above, composed of torch's own.

    `param_groups` are the very groups of the inner optimizers, so that schedulers reach every one of them. State is
    saved and restored by parameter name.
    """

    def __init__(
        self,
        hidden: Iterable[tuple[str, nn.Parameter]],
        rest: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        grokfast_alpha: float = 0.98,
        grokfast_lambda: float = 2.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        heads: Mapping[str, Heads] = MappingProxyType({}),
        qk_clip: float | None = UPDATE_RMS,
    ) -> None:
        """An optimizer over named parameters.

        Args:
            hidden: names and matrices for Muon (Nesterov momentum, five quintic Newton-Schulz steps).
            rest: names and parameters for AdamW.
            lr: learning rate of both; Muon's update of an [out, in] matrix is scaled by 0.2 sqrt(max(out, in)).
            grokfast_alpha: decay of the gradient average, in [0, 1).
            grokfast_lambda: weight of the average; 0 gives plain Muon and AdamW.
            momentum: Muon's momentum.
            betas: AdamW's decay rates.
            weight_decay: decoupled, for both.
            heads: of those matrices in `hidden` that project queries and keys.
            qk_clip: largest root mean square of one head's update, in units of the learning rate; None clips nothing.

        Raises:
            BitnetError: if nothing is to be optimized, names or parameters repeat, or a value is out of range.
        """
        if not 0.0 <= grokfast_alpha < 1.0:
            raise BitnetError(f"grokfast_alpha = {grokfast_alpha} is not allowed, it takes a number from 0 below 1.")
        if not grokfast_lambda >= 0.0:
            raise BitnetError(f"grokfast_lambda = {grokfast_lambda} is not allowed, it takes a number from 0.")
        if qk_clip is not None and not qk_clip > 0.0:
            raise BitnetError(f"qk_clip = {qk_clip} is not allowed, it takes a number above 0, or none.")
        hidden, rest = list(hidden), list(rest)
        _check_names([*hidden, *rest])
        self.grokfast_alpha, self.grokfast_lambda = grokfast_alpha, grokfast_lambda
        self.qk_clip = qk_clip
        self._heads = {parameter: heads[name] for name, parameter in hidden if name in heads}
        self._inner: list[Optimizer] = []
        if hidden:
            self._inner.append(
                Muon(hidden, lr, weight_decay, momentum, nesterov=True, adjust_lr_fn="match_rms_adamw"),
            )
        if rest:
            self._inner.append(AdamW(rest, lr, betas, weight_decay=weight_decay))
        self._owner = {p: inner for inner in self._inner for group in inner.param_groups for p in group["params"]}
        super().__init__([group for inner in self._inner for group in inner.param_groups], {})

    @classmethod
    def for_model(cls, model: nn.Module, muon: bool = True, **options: Any) -> "MuGrokfast":
        """An optimizer over the trainable parameters of `model`, split by `split_parameters`.

        Args:
            muon: False gives the hidden matrices to AdamW as well, for comparison; its updates are not clipped.
            options: as for the constructor.
        """
        hidden, rest = split_parameters(model)
        if not muon:
            return cls([], [*hidden, *rest], **options)
        return cls(hidden, rest, heads=query_key_heads(model), **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group of an inner optimizer; there is no other way in, since a group needs one that steps it.

        Raises:
            BitnetError: for any other group.
        """
        if not all(parameter in self._owner for parameter in param_group["params"]):
            raise BitnetError("MuGrokfast takes no further parameter group; construct it with all parameters.")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; the gradients themselves are left as they were."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = {parameter: parameter.grad for _, parameter in self._named() if parameter.grad is not None}
        try:
            if self.grokfast_lambda > 0:
                for parameter, gradient in gradients.items():
                    parameter.grad = self._filtered(parameter, gradient)
            with self._clipped():
                for inner in self._inner:
                    inner.step()
        finally:
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
        return loss

    @contextlib.contextmanager
    def _clipped(self) -> Iterator[None]:
        """Clip, per head, what the block does to query and key projections, but for the weight decay in it."""
        if self.qk_clip is None:
            yield
            return
        moved = {parameter for parameter in self._heads if parameter.grad is not None}
        before = {parameter: parameter.clone() for parameter in moved}
        yield
        for group in self.param_groups:
            for parameter in moved.intersection(group["params"]):
                start = before[parameter].mul_(1.0 - group["lr"] * group["weight_decay"])
                clip_update_(parameter, start, self._heads[parameter], float(group["lr"] * self.qk_clip))

    def _filtered(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """g + lambda mu, with mu kept in float32 or wider."""
        state = self.state[parameter]
        if _EMA not in state:
            state[_EMA] = torch.zeros_like(gradient, dtype=torch.promote_types(gradient.dtype, torch.float32))
        average: Tensor = state[_EMA].lerp_(gradient.to(state[_EMA].dtype), 1.0 - self.grokfast_alpha)
        return (gradient + self.grokfast_lambda * average).to(gradient.dtype)

    def state_dict(self) -> dict[str, Any]:
        """`state`: by parameter name, the filter's average and the inner optimizer's tensors; `param_groups`: options.

        Tensors are references, as in every torch optimizer.
        """
        state = {name: self._state_of(parameter) for name, parameter in self._named()}
        groups = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        return {"state": {name: values for name, values in state.items() if values}, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over copies of the state and the options of `state_dict`, matched by parameter name.

        Raises:
            BitnetError: if the groups or the shapes are those of another model.
        """
        parameters = dict(self._named())
        saved_groups = state_dict["param_groups"]
        names = [set(group["param_names"]) for group in self.param_groups]
        if [set(group["param_names"]) for group in saved_groups] != names or not state_dict["state"].keys() <= (
            parameters.keys()
        ):
            raise BitnetError("the optimizer state belongs to other parameters; load one that this model has saved.")
        for name, values in state_dict["state"].items():
            for key, value in values.items():
                if value.ndim and value.shape != parameters[name].shape:
                    raise BitnetError(
                        f"{key} of '{name}' has shape {tuple(value.shape)}, but the parameter has "
                        f"{tuple(parameters[name].shape)}; load a state of the same model."
                    )
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            group.update({key: value for key, value in saved.items() if key != "param_names"})
        for optimizer in (self, *self._inner):
            optimizer.state.clear()
        for name, values in state_dict["state"].items():
            parameter = parameters[name]
            for key, value in values.items():
                owner = self if key == _EMA else self._owner[parameter]
                # A step counter stays on the device where it was saved, as AdamW wants it.
                owner.state[parameter][key] = value.clone().to(parameter.device) if value.ndim else value.clone()

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for optimizer in (self, *self._inner):
            found |= optimizer.state.get(parameter, {})
        return found

    def _named(self) -> Iterable[tuple[str, nn.Parameter]]:
        return itertools.chain.from_iterable(
            zip(group["param_names"], group["params"], strict=True) for group in self.param_groups
        )


def _check_names(named: NamedParameters) -> None:
    """Refuse an empty list, and names or parameters that repeat: each is updated once."""
    if not named:
        raise BitnetError("there is no parameter to optimize; make at least one trainable.")
    seen: dict[int, str] = {}
    for name, parameter in named:
        if id(parameter) in seen:
            raise BitnetError(f"'{name}' and '{seen[id(parameter)]}' are one parameter; list it once.")
        if name in seen.values():
            raise BitnetError(f"two parameters are called '{name}'; give each its own name.")
        seen[id(parameter)] = name
