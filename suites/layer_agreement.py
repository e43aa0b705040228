"""Whether the parts of a decoder compute what those of transformers do, each on one and the same input.

Over many layers a last bit becomes another step of an 8-bit activation and that step another text, so that whole models
say little about small errors. On one input a layer has no depth to amplify anything in: two right ones differ by
rounding alone, but for the few tokens with an activation so near to the middle of two steps that it falls to the other
side. How far rounding alone goes is measured beside: transformers against itself, with every module's output moved at
random by one step of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.subject import RunsLayers

ROUNDING: Final = 16.0
"""How many times the distance that one step of rounding at each module makes: sums of thousands round more often."""
SET_APART: Final = 64.0
"""From so many times that distance on, a step of an activation has set a token apart, and it is counted."""
SHARE: Final = 0.1
"""Tokens that may be set apart beyond ROUNDING times as many as by rounding alone: an early one takes others along."""
LARGEST: Final = 0.25
"""Of what a layer adds: a few steps of 255 in a few of its inputs move a token by less."""


@dataclass(frozen=True)
class Parts:
    """What the parts of a model made of a text: the embedding, each layer in turn, and the head."""

    states: Sequence[Float32[Tensor, "length hidden"]]
    logits: Float32[Tensor, "length vocabulary"]


def one_step(values: Float[Tensor, "*shape"], generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Each value as it is, or the next one below or above, at random."""
    drawn = torch.randint(-1, 2, values.shape, generator=generator, dtype=torch.int8)
    return torch.where(drawn == 0, values, torch.nextafter(values, drawn * torch.tensor(torch.inf, dtype=values.dtype)))


def rounded_otherwise(model: PreTrainedModel, seed: int) -> ExitStack:
    """While this is entered, every module without parts moves its output by `one_step`."""
    generator, hooks = torch.Generator().manual_seed(seed), ExitStack()

    def move(_module: nn.Module, _given: object, output: Any) -> Any:
        floats = isinstance(output, Tensor) and output.is_floating_point()
        return one_step(output, generator) if floats else output

    for module in model.modules():
        if not any(True for _ in module.children()):
            hooks.callback(module.register_forward_hook(move).remove)
    return hooks


def parts_of(
    model: PreTrainedModel, tokens: Sequence[int], like: Parts | None = None, seed: int | None = None
) -> Parts:
    """Run a model and keep what its parts make.

    `like`: each part is given what the one before it made there, not here. `seed`: with other rounding.
    """
    states: list[Tensor] = []
    given = None if like is None else [state[None] for state in like.states]
    layers = layers_of(model)

    def enter(_: nn.Module, words: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if not states:
            states.append(words[0][0])
        return None if given is None else ((given[len(states) - 1], *words[1:]), named)

    def leave(_module: nn.Module, _given: object, output: Any) -> Any:
        states.append((output if isinstance(output, Tensor) else output[0])[0])
        last = given is not None and len(states) == len(given)
        return (
            None if not last or given is None else given[-1] if isinstance(output, Tensor) else (given[-1], *output[1:])
        )

    with ExitStack() if seed is None else rounded_otherwise(model, seed) as hooks, torch.inference_mode():
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(enter, with_kwargs=True).remove)
            hooks.callback(layer.register_forward_hook(leave).remove)
        logits = model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return Parts(states, logits)


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of a model's layers."""
    count = model.config.num_hidden_layers
    stacks = (module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    return next(stacks)


def parts_of_decoder(decoder: RunsLayers, tokens: Sequence[int], like: Parts) -> Parts:
    """The same of a decoder, each part given what the one before it made in `like`."""
    layers = range(len(like.states) - 1)
    assert decoder.layers == len(layers), f"the decoder has {decoder.layers} layers, the model {len(layers)}"
    states = [decoder.embed(tokens), *(decoder.layer(index, like.states[index]) for index in layers)]
    return Parts(states, decoder.head(like.states[-1]))


def distances(found: Parts, right: Parts) -> Float[Tensor, "parts length"]:
    """By part and token: the distance between two results, over the size of what the part adds to its input."""
    pairs = list(zip(found.states, right.states, strict=True))
    added = [right.states[0], *(after - before for before, after in zip(right.states, right.states[1:], strict=False))]
    sizes = [*added, right.logits]
    off = [(ours - theirs).double().norm(dim=-1) for ours, theirs in (*pairs, (found.logits, right.logits))]
    smallest = torch.finfo(torch.float32).tiny
    return torch.stack(
        [each / size.double().norm(dim=-1).clamp_min(smallest) for each, size in zip(off, sizes, strict=True)]
    )


@dataclass
class PartReading:
    """Distances over several texts: of the decoder, and of transformers with other rounding."""

    ours: list[Tensor] = field(default_factory=list)
    rounding: list[Tensor] = field(default_factory=list)

    def read(self, model: PreTrainedModel, decoder: RunsLayers, tokens: Sequence[int], seed: int) -> None:
        """Read a text with both."""
        right = parts_of(model, tokens)
        self.rounding.append(distances(parts_of(model, tokens, right, seed), right))
        self.ours.append(distances(parts_of_decoder(decoder, tokens, right), right))

    def times_rounding(self) -> Float[Tensor, " parts"]:
        """By part, the lower quartile of the tokens' distances over that of rounding: few tokens have no step in them
        that fell to the other side, in none of the texts."""
        quartiles = [torch.cat(each, dim=1).quantile(0.25, dim=1) for each in (self.ours, self.rounding)]
        return quartiles[0] / quartiles[1]

    def shares(self) -> tuple[float, float]:
        """Tokens that were set apart, of all parts and texts: by the decoder, and by rounding alone."""
        ours, rounding = torch.cat(self.ours, dim=1), torch.cat(self.rounding, dim=1)
        far = SET_APART * rounding.quantile(0.25, dim=1, keepdim=True)
        return float((ours > far).double().mean()), float((rounding > far).double().mean())

    def largest(self) -> float:
        """The largest distance of a token, NaN where there is one."""
        return float(torch.cat(self.ours, dim=1).max())

    def hold(self, name: Callable[[int], str]) -> None:
        """Fail where a part is off by more than rounding, too many tokens are set apart, or one by too much."""
        times, (ours, rounding), largest = self.times_rounding(), self.shares(), self.largest()
        wrong = [f"{name(index)} ({value:.3g})" for index, value in enumerate(times.tolist()) if not value <= ROUNDING]
        assert not wrong, f"off by more than {ROUNDING:g} times what rounding makes: {', '.join(wrong)}"
        assert ours <= ROUNDING * rounding + SHARE, (
            f"{ours:.1%} of the tokens are set apart, {rounding:.1%} by rounding"
        )
        assert largest <= LARGEST, f"a token is off by {largest:.3g} of what the part adds"
