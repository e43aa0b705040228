"""Subjects with one defect each in how they measure second moments; what they do with them is in `weight_defects`."""

from dataclasses import replace

import torch

from tests.suites.reference_subject import OPTIMAL, ReferenceSubject


class Sound(ReferenceSubject):
    """No defect, and the one variant that is calibrated."""

    declaration = replace(ReferenceSubject.declaration, variants=(OPTIMAL,))


# --------------------------------------------------------------------------- what is averaged


class MagnitudesForSquares(Sound):
    def token_squares(self, x):
        return x.double().abs()


class SumsForMeans(Sound):
    def average(self, seen):
        return torch.cat(seen).sum(dim=0).float()


class SumsInHalfPrecision(Sound):
    """As a hook inside autocast accumulates."""

    def token_squares(self, x):
        return x.bfloat16().square()


class SmallFeaturesPreferred(Sound):
    """One over the second moment: what matters most counts least."""

    def average(self, seen):
        return 1 / super().average(seen)


class LastSampleAlone(Sound):
    """Each sample's moments replace those of the one before."""

    def average(self, seen):
        return super().average(seen[-1:])


class FirstBlockAlone(Sound):
    def calibrated_layers(self, model):
        return [name for name in super().calibrated_layers(model) if ".layers.0." in name]


class NaNActivationsIgnored(Sound):
    def token_squares(self, x):
        return super().token_squares(torch.nan_to_num(x))


# --------------------------------------------------------------------------- what is read


class PrefixTokenCounted(Sound):
    def draw(self, encoded, samples, tokens, seed):
        return [[256, *window] for window in super().draw(encoded, samples, tokens, seed)]


class TokensShuffled(Sound):
    """Draws tokens, not windows: what a layer is given depends on what stands before."""

    def draw(self, encoded, samples, tokens, seed):
        return [sorted(window) for window in super().draw(encoded, samples, tokens, seed)]


class ShortTextsPadded(Sound):
    def draw(self, encoded, samples, tokens, seed):
        return super().draw([*encoded, *[0] * (tokens - len(encoded))], samples, tokens, seed)


class SeedIgnored(Sound):
    def draw(self, encoded, samples, tokens, seed):
        return super().draw(encoded, samples, tokens, 0)


class SamplesNotReproducible(Sound):
    def draw(self, encoded, samples, tokens, seed):
        return super().draw(encoded, samples, tokens, None)


# --------------------------------------------------------------------------- what is left behind


class HooksLeftBehind(Sound):
    def remove(self, hooks):
        pass


class ModelLeftInEvaluation(Sound):
    def calibrated_layers(self, model):
        return super().calibrated_layers(model.eval())
