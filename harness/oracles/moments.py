"""Second moments of layer inputs by definition: what a subject's calibration statistics are compared with.

For a window of tokens, E[x_j^2] of a layer is the mean over its tokens of the square of the layer's j-th input. Windows
are read one at a time by the model as it is, and squares are taken and summed in float64. Whatever samples a subject
draws from a text, its moments are the mean over some windows of it: `mixture` finds that combination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.optimize import nnls
from torch import Tensor, nn


@dataclass(frozen=True)
class Mixture:
    """Non-negative ``weights`` of windows, and the largest error left, relative to each feature's largest value."""

    weights: Float64[np.ndarray, " windows"]
    error: float

    @property
    def windows(self) -> float:
        """How many windows take part: k for k equal weights that add up to 1."""
        return float(1 / np.sum(self.weights**2))


def windows_of(tokens: Sequence[int], length: int) -> Int64[Tensor, "windows tokens"]:
    """Every run of ``length`` consecutive tokens, in the order of their first ones."""
    return torch.tensor(list(tokens)).unfold(0, length, 1)


def inputs_of(
    model: nn.Module, names: Sequence[str], window: Int64[Tensor, " tokens"]
) -> dict[str, Float64[Tensor, "tokens in"]]:
    """What each named layer is given while the model reads one window, in float64."""
    seen: dict[str, Float64[Tensor, "tokens in"]] = {}

    def recorder(name: str) -> Any:
        def record(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            seen[name] = arguments[0].detach()[0].double()

        return record

    hooks = [model.get_submodule(name).register_forward_pre_hook(recorder(name)) for name in names]
    try:
        with torch.no_grad():
            model(window[None])
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def input_moments(
    model: nn.Module, names: Sequence[str], windows: Int64[Tensor, "windows tokens"]
) -> dict[str, Float64[np.ndarray, "windows in"]]:
    """E[x_j^2] of each named layer over the tokens of each window by itself."""
    each = [inputs_of(model, names, window) for window in windows]
    return {name: np.stack([inputs[name].square().mean(dim=0).numpy() for inputs in each]) for name in names}


def mixture(
    by_window: Mapping[str, Float64[np.ndarray, "windows in"]], measured: Mapping[str, Float64[np.ndarray, " in"]]
) -> Mixture:
    """The combination of windows, one for all layers, that comes closest to the measured moments (least squares)."""
    features = np.concatenate([by_window[name] for name in measured], axis=1)
    largest = np.maximum(features.max(axis=0), np.finfo(np.float64).tiny)
    wanted = np.concatenate([measured[name] for name in measured]) / largest
    weights, _ = nnls((features / largest).T, wanted, maxiter=100 * len(features))
    return Mixture(weights, float(np.max(np.abs(weights @ (features / largest) - wanted))))
