"""The choice of the next token, and what must hold before there can be one."""

import torch
from jaxtyping import Float
from torch import Tensor

from bitnet.errors import BitnetError


def choose(logits: Float[Tensor, "vocabulary"], temperature: float, generator: torch.Generator) -> int:
    """The most likely token at `temperature` 0, else one drawn from softmax(logits / temperature)."""
    if temperature == 0.0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def check_temperature(temperature: float) -> None:
    """Raise a BitnetError unless the temperature is finite and not negative."""
    if not 0.0 <= temperature < float("inf"):
        raise BitnetError(f"The temperature is {temperature:g}, but must be 0 or more.")


def check_prompt(length: int, positions: int) -> int:
    """Positions that a prompt of `length` tokens leaves free; a BitnetError for no token, or where none is free."""
    if length == 0:
        raise BitnetError("The prompt is empty: give at least one character to continue from.")
    if length >= positions:
        raise BitnetError(f"The prompt has {length} tokens but the model has {positions} positions: shorten it.")
    return positions - length
