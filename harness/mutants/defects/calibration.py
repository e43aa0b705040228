"""Subjects with one defect each in how they measure second moments; what they do with them is in `weight_defects`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from typing_extensions import override

from harness.mutants.reference.quantizing import ReferenceSubject
from harness.mutants.reference.weights import OPTIMAL


class Sound(ReferenceSubject):
    """No defect, and the one variant that is calibrated."""

    declaration = replace(ReferenceSubject.declaration, variants=(OPTIMAL,))


# --------------------------------------------------------------------------- what is averaged


class MagnitudesForSquares(Sound):
    """Averages magnitudes instead of squares."""

    @override
    def token_squares(self, x: torch.Tensor) -> torch.Tensor:
        return x.double().abs()


class SumsForMeans(Sound):
    """Adds up what it should average."""

    @override
    def average(self, seen: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(seen).sum(dim=0).float()


class SumsInHalfPrecision(Sound):
    """As a hook inside autocast accumulates."""

    @override
    def token_squares(self, x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16().square()


class SmallFeaturesPreferred(Sound):
    """One over the second moment: what matters most counts least."""

    @override
    def average(self, seen: list[torch.Tensor]) -> torch.Tensor:
        return 1 / super().average(seen)


class LastSampleAlone(Sound):
    """Each sample's moments replace those of the one before."""

    @override
    def average(self, seen: list[torch.Tensor]) -> torch.Tensor:
        return super().average(seen[-1:])


class FirstBlockAlone(Sound):
    """Measures the first block and leaves the others out."""

    @override
    def calibrated_layers(self, model: Any) -> list[str]:
        return [name for name in super().calibrated_layers(model) if ".layers.0." in name]


class NaNActivationsIgnored(Sound):
    """NaN among the activations is taken for 0."""

    @override
    def token_squares(self, x: torch.Tensor) -> torch.Tensor:
        return super().token_squares(torch.nan_to_num(x))


# --------------------------------------------------------------------------- what is read


class PrefixTokenCounted(Sound):
    """Puts a prefix token before each window and counts it."""

    @override
    def draw(self, encoded: list[int], samples: int, tokens: int, seed: int | None) -> list[list[int]]:
        return [[256, *window] for window in super().draw(encoded, samples, tokens, seed)]


class TokensShuffled(Sound):
    """Draws tokens, not windows: what a layer is given depends on what stands before."""

    @override
    def draw(self, encoded: list[int], samples: int, tokens: int, seed: int | None) -> list[list[int]]:
        return [sorted(window) for window in super().draw(encoded, samples, tokens, seed)]


class ShortTextsPadded(Sound):
    """Pads a text that is too short for one sample."""

    @override
    def draw(self, encoded: list[int], samples: int, tokens: int, seed: int | None) -> list[list[int]]:
        return super().draw([*encoded, *[0] * (tokens - len(encoded))], samples, tokens, seed)


class SeedIgnored(Sound):
    """Draws the same samples whatever the seed."""

    @override
    def draw(self, encoded: list[int], samples: int, tokens: int, seed: int | None) -> list[list[int]]:
        return super().draw(encoded, samples, tokens, 0)


class SamplesNotReproducible(Sound):
    """Draws other samples each time."""

    @override
    def draw(self, encoded: list[int], samples: int, tokens: int, seed: int | None) -> list[list[int]]:
        return super().draw(encoded, samples, tokens, None)


# --------------------------------------------------------------------------- what is left behind


class HooksLeftBehind(Sound):
    """Leaves its hooks on the model."""

    @override
    def remove(self, hooks: list[Any]) -> None:
        pass


class ModelLeftInEvaluation(Sound):
    """Leaves a model that was training in evaluation mode."""

    @override
    def calibrated_layers(self, model: Any) -> list[str]:
        return super().calibrated_layers(model.eval())
