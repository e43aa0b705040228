"""Subjects that do something else than what was published, and declare it: only the published rows may turn RED."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from typing_extensions import override

from harness.mutants.reference.layers import Training
from harness.mutants.reference.optimizer import RECIPE, OptimizerSubject, OwnOptimizer
from harness.mutants.reference.quantizing import ReferenceSubject
from harness.mutants.reference.weights import ABSMEAN, Array
from harness.subject import WeightVariant


class AsPublished(ReferenceSubject):
    """One rule, that of the paper."""

    declaration = replace(ReferenceSubject.declaration, variants=(ABSMEAN,))


class LeastSquaresScale(AsPublished):
    """The paper's codes with a better scale, declared."""

    declaration = replace(AsPublished.declaration, variants=(replace(ABSMEAN, scale_rule="least_squares"),))

    @override
    def absmean(self, values: Array, mean: Array, variant: WeightVariant, moments: Array) -> tuple[Array, Array]:
        codes, _ = super().absmean(values, mean, variant, moments)
        coded = abs(codes).sum(axis=1, keepdims=True)
        return codes, (abs(values) * abs(codes)).sum(axis=1, keepdims=True) / coded.clip(min=1)


class FourBitActivations(AsPublished):
    """Seven levels on either side, declared."""

    declaration = replace(AsPublished.declaration, activation_range=(-7, 7))

    @override
    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = x.detach().double()
        peak = values.abs().amax(dim=-1, keepdim=True)
        codes = (values * 7 / torch.where(peak > 0, peak, 1)).round()
        return codes.to(torch.int8), (peak / 7).float()


class ClippedTraining(Training):
    """No gradient for weights beyond their scale."""

    @override
    def weight_through(self) -> torch.Tensor:
        limit = self.weight.abs().mean().detach()
        clipped = self.weight.clamp(-limit, limit)
        return clipped + (self.quantized_weight() - clipped).detach()


class ClippedEstimator(AsPublished):
    """The clipped estimator, declared."""

    declaration = replace(AsPublished.declaration, ste="clipped")
    layer_class = ClippedTraining


class FilterLast(OwnOptimizer):
    """Orthogonalises the raw gradient's momentum and filters what comes out."""

    @override
    def filter(self, gradient: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        return gradient if gradient.ndim == 2 else super().filter(gradient, state)

    @override
    def muon(self, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        return super().filter(super().muon(gradient, state, group), state)


class FilterLastSubject(OptimizerSubject):
    """Another order of the optimizer's stages, declared."""

    optimizer_recipe = replace(RECIPE, order=("momentum", "orthogonalise", "filter"))

    @override
    def optimizer(self, model: Any, lr: float, alpha: float, lam: float, weight_decay: float = 0.0) -> OwnOptimizer:
        return FilterLast(model, lr, alpha, lam, weight_decay, "")
