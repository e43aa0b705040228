"""Weights that a module has only while it works, so that a model takes little more memory than its largest layer.

The parameters and buffers stay the objects that they are, of the same shape and dtype; between two uses they are one
number that stands for all (NaN, or bytes that no codec writes), so that a use which nobody provided for is seen.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitnet.memory import free_at_once

Fill = Callable[[nn.Module], None]
"""Gives a module's own tensors their values: parameters by `parameter.data = ...`, buffers by assignment."""


class _Lender:
    """Fills one module when the first of its users comes, and empties it when the last one has gone."""

    def __init__(self, module: nn.Module, fill: Fill) -> None:
        self._module, self._fill, self._users = module, fill, 0
        self._empty()

    def take(self) -> None:
        if self._users == 0:
            self._fill(self._module)
        self._users += 1

    def give_back(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._empty()

    def _empty(self) -> None:
        for parameter in self._module.parameters(recurse=False):
            parameter.data = placeholder(parameter)
        for name, buffer in self._module.named_buffers(recurse=False):
            setattr(self._module, name, placeholder(buffer))


#: Where a module keeps its lender, which goes with it.
_LENDER = "_bitnet_lender"


def lend(module: nn.Module, fill: Fill) -> None:
    """From now on `module` has its own tensors, not those of its children, in calls of it and in `lent` alone.

    Modules that share a parameter, as an embedding and a head do, are not used at the same time.
    """
    _follow(module, _Lender(module, fill))


def lend_head(model: PreTrainedModel) -> None:
    """Where the head of `model` has the weight of an embedding that is lent, lend it to the head as well."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head is not embedding and head.weight is embedding.weight:
        _follow(head, vars(embedding)[_LENDER])


def _follow(module: nn.Module, lender: _Lender) -> None:
    vars(module)[_LENDER] = lender
    module.register_forward_pre_hook(lambda *_: lender.take())
    module.register_forward_hook(lambda *_: lender.give_back(), always_call=True)


@contextlib.contextmanager
def lent(module: nn.Module) -> Iterator[None]:
    """Within the block a module has its tensors; one that nothing lends to has them anyway."""
    lender: _Lender | None = vars(module).get(_LENDER)
    if lender is None:
        yield
        return
    lender.take()
    try:
        yield
    finally:
        lender.give_back()


@contextlib.contextmanager
def kept_for_backward() -> Iterator[None]:
    """Within the block what a backward pass needs of a parameter is the values that it has now, not those of later."""
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.detach(), lambda kept: kept):
        yield


def is_lent(model: nn.Module) -> bool:
    """Whether a part of `model` has its tensors only for as long as it works."""
    return any(_LENDER in vars(module) for module in model.modules())


def placeholder(tensor: Tensor) -> Tensor:
    """A tensor of the same shape and dtype on the CPU that takes the memory of one number."""
    value = torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
    return torch.full((), value, dtype=tensor.dtype, device="cpu").expand(tensor.shape)


def without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes, with placeholders for all parameters, ties kept; buffers have their values."""
    free_at_once()
    with _parameters_on_meta():
        model = build()
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            kept = made.setdefault(id(parameter), nn.Parameter(placeholder(parameter), parameter.requires_grad))
            setattr(module, name, kept)
    return model


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Within the block no parameter that a module is given takes memory, nor time to be drawn."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
