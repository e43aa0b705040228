"""Subjects that do something else than what was published, and declare it: only the published rows may turn RED."""

from dataclasses import replace

import torch
from torch import nn

from tests.suites.optimizer_subjects import RECIPE, OptimizerSubject, OwnOptimizer
from tests.suites.reference_subject import ReferenceSubject, Training

PUBLISHED = next(
    variant
    for variant in ReferenceSubject.declaration.variants
    if (variant.rule, variant.granularity) == ("absmean", "tensor")
)


class Sound(ReferenceSubject):
    """One rule, that of the paper."""

    declaration = replace(ReferenceSubject.declaration, variants=(PUBLISHED,))


class LeastSquaresScale(Sound):
    """The paper's codes with a better scale, declared."""

    declaration = replace(Sound.declaration, variants=(replace(PUBLISHED, scale_rule="least_squares"),))

    def absmean(self, values, mean, variant, moments):
        codes, _ = super().absmean(values, mean, variant, moments)
        coded = abs(codes).sum(axis=1, keepdims=True)
        return codes, (abs(values) * abs(codes)).sum(axis=1, keepdims=True) / coded.clip(min=1)


class FourBitActivations(Sound):
    """Seven levels on either side, declared."""

    declaration = replace(Sound.declaration, activation_range=(-7, 7))

    def quantize_activation(self, x):
        values = x.detach().double()
        peak = values.abs().amax(dim=-1, keepdim=True)
        codes = (values * 7 / torch.where(peak > 0, peak, 1)).round()
        return codes.to(torch.int8), (peak / 7).float()


class ClippedTraining(Training):
    """No gradient for weights beyond their scale."""

    def weight_through(self):
        limit = self.weight.abs().mean().detach()
        clipped = self.weight.clamp(-limit, limit)
        return clipped + (self.quantized_weight() - clipped).detach()


class ClippedEstimator(Sound):
    """The clipped estimator, declared."""

    declaration = replace(Sound.declaration, ste="clipped")
    layer_class: type[nn.Module] = ClippedTraining


class FilterLast(OwnOptimizer):
    """Orthogonalises the raw gradient's momentum and filters what comes out."""

    def filter(self, gradient, state):
        return gradient if gradient.ndim == 2 else super().filter(gradient, state)

    def muon(self, gradient, state, group):
        return super().filter(super().muon(gradient, state, group), state)


class FilterLastSubject(OptimizerSubject):
    """Another order of the optimizer's stages, declared."""

    optimizer_recipe = replace(RECIPE, order=("momentum", "orthogonalise", "filter"))

    def optimizer(self, model, lr, alpha, lam, weight_decay=0.0):
        return FilterLast(model, lr, alpha, lam, weight_decay, "")
