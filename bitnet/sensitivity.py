"""Which layers deserve more planes: the loss that each layer's error costs, and the best use of a budget of bits.

A layer's output error dy changes the loss of a token by about (g . dy)^2 / 2, g being the gradient of the loss by that
output (the Fisher approximation of the second derivative). With errors that are independent of each other this is
sum_o E[g_o^2] E[dy_o^2] / 2: one backward pass gives the first factor, compensation measures the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from bitnet.config import Codec, ScaleDtype
from bitnet.grid import MAX_PLANES
from bitnet.layer_store import TernaryLayer
from bitnet.memory import blockwise
from bitnet.packing import bytes_per_row
from bitnet.scales import SCALE_BITS

#: What a further plane divides the output error by, measured on SmolLM2-135M from one to two and from two to three.
PLANE_GAIN = 8.0
#: Sequences that the loss is differentiated on.
GRADIENT_SAMPLES = 4


@dataclass(frozen=True)
class Cost:
    """A layer as a candidate: `loss` in nats a token with `planes`, and the bits that one more plane takes."""

    planes: int
    loss: float
    bits_per_plane: int

    def with_planes(self, planes: int) -> float:
        """The loss with another number of planes, as `PLANE_GAIN` predicts it."""
        return float(self.loss * PLANE_GAIN ** (self.planes - planes))


def output_gradients(
    model: PreTrainedModel, names: list[str], samples: Int64[Tensor, "samples tokens"]
) -> dict[str, Float32[Tensor, "out"]]:
    """E[g_o^2] over the tokens, g the gradient of the summed next-token loss by each output of each layer."""
    sums: dict[str, Float64[Tensor, out]] = {}

    def watch(name: str, y: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            squares = gradient.double().square().flatten(0, -2).sum(dim=0)
            sums[name] = sums[name] + squares if name in sums else squares

        y.register_hook(add)  # type: ignore[no-untyped-call]

    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: watch(name, y)) for name in names
    ]
    # The embeddings' output is where gradients end: no weight gets one.
    handles.append(model.get_input_embeddings().register_forward_hook(lambda _, __, y: y.requires_grad_()))
    before = [parameter.requires_grad for parameter in model.parameters()]
    try:
        model.requires_grad_(False)
        with torch.enable_grad(), blockwise(model):
            for sample in torch.split(samples, 1):
                logits = model(input_ids=sample, use_cache=False).logits[0, :-1].float()
                cross_entropy(logits, sample[0, 1:], reduction="sum").backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
        for parameter, wanted in zip(model.parameters(), before, strict=True):
            parameter.requires_grad_(wanted)
    return {name: (sums[name] / samples.numel()).float() for name in names}


def costs(
    layers: Mapping[str, TernaryLayer],
    gradients: Mapping[str, Float32[Tensor, "out"]],
    codec: Codec,
    scale_dtype: ScaleDtype,
) -> dict[str, Cost]:
    """The cost of every layer as it is."""
    found = {}
    for name, layer in layers.items():
        planes, rows, width = layer.shape
        scale_bits = layer.scale[0].numel() * SCALE_BITS[scale_dtype]
        bits = 8 * rows * bytes_per_row(width, codec) + scale_bits
        loss = 0.5 * float(gradients[name].double() @ layer.output_error.double())
        found[name] = Cost(planes, loss, bits)
    return found


def predicted_costs(
    shapes: Mapping[str, tuple[int, int]],
    gradients: Mapping[str, Float32[Tensor, "out"]],
    errors: Mapping[str, Float32[Tensor, "out"]],
    group_size: int | None,
    codec: Codec,
    scale_dtype: ScaleDtype,
) -> dict[str, Cost]:
    """The cost of every layer with one plane, before any is ternary, up to a factor that all share.

    Args:
        shapes: (out, in) of each layer.
        gradients: see `output_gradients`.
        errors: see `bitnet.ternarizer.rounding_errors`.
    """
    found = {}
    for name, (rows, width) in shapes.items():
        groups = -(-width // (group_size or width))
        bits = 8 * rows * bytes_per_row(width, codec) + rows * groups * SCALE_BITS[scale_dtype]
        found[name] = Cost(1, 0.5 * float(gradients[name].double() @ errors[name].double()), bits)
    return found


def assign_planes(
    candidates: Mapping[str, Cost], allowed_loss: float, allowed_bits: float, least: int = 1
) -> dict[str, int]:
    """Planes of each layer: from `least` each, the plane that saves most loss per bit is added next.

    Ends when the predicted loss, summed over the layers, is at most `allowed_loss`, when no layer can take a further
    plane, or when the next one would go beyond `allowed_bits` in all.
    """
    planes = dict.fromkeys(candidates, least)
    loss = sum(cost.with_planes(least) for cost in candidates.values())
    bits = least * sum(cost.bits_per_plane for cost in candidates.values())

    def saved(name: str) -> float:
        cost, count = candidates[name], planes[name]
        return cost.with_planes(count) - cost.with_planes(count + 1)

    while loss > allowed_loss:
        open_ = [name for name, count in planes.items() if count < MAX_PLANES]
        if not open_:
            break
        name = max(open_, key=lambda name: saved(name) / candidates[name].bits_per_plane)
        if bits + candidates[name].bits_per_plane > allowed_bits:
            break
        loss -= saved(name)
        bits += candidates[name].bits_per_plane
        planes[name] += 1
    return planes


def most_sensitive(candidates: Mapping[str, Cost], allowed_loss: float, largest_share: float) -> list[str]:
    """Layers to keep in higher precision, the costliest per bit first, until the others cost at most `allowed_loss`.

    No more than `largest_share` of the bits that one plane of all layers takes.
    """
    loss = sum(cost.loss for cost in candidates.values())
    room = largest_share * sum(cost.bits_per_plane for cost in candidates.values())
    kept: list[str] = []
    for name in sorted(candidates, key=lambda name: -candidates[name].loss / candidates[name].bits_per_plane):
        if loss <= allowed_loss or candidates[name].bits_per_plane > room:
            break
        kept.append(name)
        loss -= candidates[name].loss
        room -= candidates[name].bits_per_plane
    return kept
