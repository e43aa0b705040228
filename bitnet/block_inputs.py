"""What the decoder blocks and the head of a model read and give."""

import contextlib
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel


class _ArrivedError(Exception):
    """Ends a forward pass once the input that is asked for is known."""


def first_inputs(
    model: PreTrainedModel, prefix: str, samples: Int64[Tensor, "samples tokens"]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the first block is called with: hidden states first, then masks and positions."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def arrive(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise _ArrivedError

    handle = model.get_submodule(f"{prefix}.0").register_forward_pre_hook(arrive, with_kwargs=True)
    try:
        with contextlib.suppress(_ArrivedError):
            model.base_model(input_ids=samples.to(model.device), use_cache=False)
    finally:
        handle.remove()
    args, kwargs = found[0]
    if not args:
        args = (kwargs.pop("hidden_states"),)
    return args, kwargs


def head_inputs(model: PreTrainedModel, samples: Int64[Tensor, "samples tokens"]) -> Float[Tensor, "samples tokens d"]:
    """The hidden states that the output head turns into logits."""
    found: list[Tensor] = []

    def arrive(_: nn.Module, args: tuple[Any, ...]) -> None:
        found.append(args[0])
        raise _ArrivedError

    handle = model.get_output_embeddings().register_forward_pre_hook(arrive)
    try:
        with contextlib.suppress(_ArrivedError):
            model(input_ids=samples.to(model.device), use_cache=False)
    finally:
        handle.remove()
    return found[0]


def hidden_states(output: Any) -> Float[Tensor, "samples tokens d"]:
    """The hidden states in what a block has returned, alone or with caches behind them."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
