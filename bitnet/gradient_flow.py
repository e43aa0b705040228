"""Does a gradient reach every quantized layer? Measured by one backward pass through the model that is asked about."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitnet.lending import kept_for_backward, lent
from bitnet.memory import blockwise


@dataclass(frozen=True)
class LayerGradient:
    """The gradient that the language-model loss sends into one layer's latent weight.

    `norm` is its Euclidean norm, None where there is no gradient to measure; `problem` says in a few words why the
    layer fails, None where it does not.
    """

    name: str
    norm: float | None
    problem: str | None


@dataclass(frozen=True)
class GradientFlow:
    """All quantized layers in the model's order. No layers at all is a failure, not a success."""

    layers: tuple[LayerGradient, ...]

    @property
    def fraction(self) -> float:
        """Share of the layers that get a finite, non-zero gradient."""
        if not self.layers:
            return 0.0
        return sum(layer.problem is None for layer in self.layers) / len(self.layers)

    @property
    def failures(self) -> tuple[LayerGradient, ...]:
        """The layers that fail."""
        return tuple(layer for layer in self.layers if layer.problem is not None)


def gradient_flow(
    model: PreTrainedModel, weights: Mapping[str, Tensor], tokens: Int64[Tensor, "batch length"]
) -> GradientFlow:
    """Backpropagate the language-model loss on `tokens` and look at every latent weight.

    `weights` maps a layer's name to its latent weight, a parameter of `model`. A layer fails when it is frozen or cut
    off from the loss, when its weight or gradient holds NaN or infinity, when its gradient is all zero, or when its
    weight is all zero (its gradient may then be fine, but the layer passes no signal on). Gradients that `model`
    held before are dropped; dropout is off.

    Gradients are looked at one after another as they arrive, and of supported architectures each decoder block runs
    again for its own backward pass, so that little more memory is needed than the model itself takes.
    """
    owners = _owners(model)
    broken = [name for name, weight in weights.items() if not _finite(weight, owners[id(weight)])]
    if broken:
        # Quantization refuses such a weight, so no loss can be computed and the others cannot be measured.
        return GradientFlow(tuple(_unmeasured(name, name in broken) for name in weights))
    training = model.training
    model.eval()
    model.zero_grad(set_to_none=True)
    try:
        with torch.enable_grad(), _judging(model, weights, owners) as judged, kept_for_backward(), blockwise(model):
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
            if loss.requires_grad:
                loss.backward()
        return GradientFlow(tuple(judged.get(name) or _judge(name, weight) for name, weight in weights.items()))
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)


@contextlib.contextmanager
def _judging(
    model: nn.Module, weights: Mapping[str, Tensor], owners: Mapping[int, nn.Module]
) -> Iterator[dict[str, LayerGradient]]:
    """Within the block every gradient is dropped as soon as it has been judged; gives the judgements by layer."""
    judged: dict[str, LayerGradient] = {}
    names = {id(weight): name for name, weight in weights.items()}

    def look(weight: Tensor) -> None:
        if id(weight) in names:
            with lent(owners[id(weight)]):
                judged[names[id(weight)]] = _judge(names[id(weight)], weight)
        weight.grad = None

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles = [parameter.register_post_accumulate_grad_hook(look) for parameter in trained]  # type: ignore[no-untyped-call]
    try:
        yield judged
    finally:
        for handle in handles:
            handle.remove()


def _owners(model: nn.Module) -> dict[int, nn.Module]:
    """The module of each parameter, by the parameter's id."""
    return {id(parameter): module for module in model.modules() for parameter in module.parameters(recurse=False)}


def _finite(weight: Tensor, owner: nn.Module) -> bool:
    with lent(owner):
        return bool(torch.isfinite(weight).all())


def _unmeasured(name: str, broken: bool) -> LayerGradient:
    return LayerGradient(name, None, "weight is not finite" if broken else "not measured: another weight is not finite")


def _judge(name: str, weight: Tensor) -> LayerGradient:
    gradient = weight.grad
    if gradient is None:
        return LayerGradient(name, None, "no gradient: detached from the loss")
    norm = float(gradient.double().norm())
    if not torch.isfinite(gradient).all():
        return LayerGradient(name, None, "gradient is not finite")
    if norm == 0.0:
        return LayerGradient(name, norm, "gradient is zero")
    if not weight.any():
        return LayerGradient(name, norm, "weight is zero")
    return LayerGradient(name, norm, None)
