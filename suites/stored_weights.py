"""Stored codes and scales as the weights that they stand for, and where those weights sit in a plain model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Float32
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.subject import QuantizedWeight, Subject


def stored_weight(subject: Subject, quantized: QuantizedWeight) -> Float32[Tensor, "out in"]:
    """The matrix that codes and scales stand for, in float32: the sum over the planes."""
    first, *others = (plane.codes.float() * multiplier(subject, plane) for plane in quantized.planes)
    return sum(others, start=first)


def multiplier(subject: Subject, quantized: QuantizedWeight) -> Float32[Tensor, "out in"]:
    """What each code is multiplied by: its scale, or 1 / scale where the subject declares that scales divide."""
    scale, (rows, width) = quantized.scale.float(), quantized.codes.shape
    if scale.shape[1] > 1:
        assert quantized.group_size is not None, "several scales a row, but no group size"
        scale = scale.repeat_interleave(quantized.group_size, dim=1)[:, :width]
    factor = scale if subject.declaration.scale_convention == "multiply" else torch.where(scale == 0, 0.0, 1 / scale)
    return factor.expand(rows, width)


def stored_bytes(packed: Path, layers: Iterable[str]) -> int | None:
    """Bytes of all tensors in a packed folder that are named after one of these layers; None where there are none."""
    owners = tuple(f"{name}." for name in layers)
    total: int = 0
    for path in packed.rglob("*.safetensors"):
        with safe_open(path, "pt") as stored:
            named = [name for name in stored.keys() if name.startswith(owners)]  # noqa: SIM118 - not a mapping
            total += sum(int(stored.get_tensor(name).nbytes) for name in named)
    return total or None


def layers_of(model: PreTrainedModel, weights: Mapping[str, QuantizedWeight]) -> dict[str, nn.Module]:
    """The modules of a model that have the names of quantized layers."""
    return {name: model.get_submodule(name) for name in weights}


def preserved_parameters(
    model: PreTrainedModel, weights: Mapping[str, QuantizedWeight]
) -> dict[str, Float[Tensor, ...]]:
    """Every parameter of a plain model that is no quantized weight, by name; a tied head is listed once."""
    quantized = {f"{name}.weight" for name in weights}
    return {name: value.detach() for name, value in model.named_parameters() if name not in quantized}


def value_at(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of that name, such as `model.norm.weight`; a packed layer may keep its bias as either."""
    module, _, key = name.rpartition(".")
    value = getattr(model.get_submodule(module), key, None)
    assert isinstance(value, Tensor), f"the model has no tensor {name}"
    return value.detach()
