"""Subjects with one defect each in the layer that trains through the quantizer, most from real training code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from typing_extensions import override

from harness.mutants.reference.layers import Inference, Training
from harness.mutants.reference.quantizing import ReferenceSubject
from harness.mutants.reference.weights import THRESHOLD
from harness.subject import WeightVariant


class Sound(ReferenceSubject):
    """No defect; one variant is enough for what has nothing to do with the weight rule."""

    declaration = replace(ReferenceSubject.declaration, variants=(THRESHOLD,))


class ClippedAsDeclared(Sound):
    """No defect either: the other estimator, declared."""

    declaration = replace(Sound.declaration, ste="clipped")

    class layer_class(Training):  # noqa: N801 - it fills the attribute of that name
        """With the defect."""

        @override
        def weight_through(self) -> torch.Tensor:
            quantized = self.quantized_weight()
            limit = quantized.abs().amax(dim=1, keepdim=True).detach()
            clipped = torch.clamp(self.weight, -limit, limit)
            return clipped + (quantized - clipped).detach()


# --------------------------------------------------------------------------- gradients


class GradientStopsAtZeroCodes(Sound):
    """A weight once zeroed never comes back."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def weight_through(self) -> torch.Tensor:
            quantized = self.quantized_weight()
            alive = self.weight * (quantized != 0)
            return alive + (quantized - alive).detach()


class ClippedForDeclaredIdentity(ClippedAsDeclared):
    """Declares the identity and clips gradients."""

    declaration = Sound.declaration


class IdentityForDeclaredClipped(Sound):
    """Declares clipped gradients and lets all of them through."""

    declaration = ClippedAsDeclared.declaration


class GradientTimesScale(Sound):
    """Lets the gradient of the scaled code through, not that of the code times the scale."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def weight_through(self) -> torch.Tensor:
            quantized = self.quantized_weight()
            scaled = self.weight * quantized.abs().amax(dim=1, keepdim=True).detach()
            return scaled + (quantized - scaled).detach()


class BiasGradientLost(Sound):
    """The bias gets no gradient."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.bias is None or not self.quantize:
                return super().forward(x)
            return F.linear(self.input_through(x), self.weight_through(), self.bias.detach())


class InputGradientLost(Sound):
    """The rounding of the activations has gradient zero, and nothing goes round it."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def input_through(self, x: torch.Tensor) -> torch.Tensor:
            return self.quantized_input(x.detach()) + 0 * x


class GradientReplacesTheOneBefore(Sound):
    """A second backward pass replaces the gradient of the first."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.weight.register_hook(lambda new: new if self.weight.grad is None else new - self.weight.grad)  # type: ignore[no-untyped-call]


class NaNGradientsZeroed(Sound):
    """NaN among the gradients becomes 0."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.weight.register_hook(torch.nan_to_num)  # type: ignore[no-untyped-call]


# --------------------------------------------------------------------------- forward


class ActivationsNotQuantized(Sound):
    """Trains on full-precision activations what will be run on quantized ones."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def input_through(self, x: torch.Tensor) -> torch.Tensor:
            return x


class EvaluatesFullPrecision(Sound):
    """The training mode quantizes, the evaluation mode does not."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if self.training else F.linear(x, self.weight, self.bias)


class InferenceWithoutBias(Sound):
    """The layer for inference forgets the bias."""

    @override
    def inference_linear(self, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant) -> nn.Module:
        return Inference(self, weight, None, variant)


class LastDimensionOnlyOfMatrices(Sound):
    """Takes the first dimension for the tokens, whatever comes between."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.reshape(x.shape[0], -1)[:, : self.weight.shape[1]]) if x.ndim > 1 else x


class BiasWhereNoneWasGiven(Sound):
    """Makes up a bias of zeros."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        def __init__(
            self, subject: Any, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant, quantize: bool
        ) -> None:
            super().__init__(subject, weight, torch.zeros(len(weight)) if bias is None else bias, variant, quantize)


class QuantizesAllTheSame(Sound):
    """Ignores that quantization is switched off."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        def __init__(
            self, subject: Any, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant, quantize: bool
        ) -> None:
            super().__init__(subject, weight, bias, variant, quantize=True)


class NaNInputsReplaced(Sound):
    """NaN among the inputs becomes 0."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.nan_to_num(x))


class NaNOutputsReplaced(Sound):
    """Looks at the bias only after the damage is done."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nan_to_num(super().forward(x))


# --------------------------------------------------------------------------- latent weights and steps


class StaleCodes(Sound):
    """Quantizes once and remembers."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def quantized_weight(self) -> torch.Tensor:
            if not hasattr(self, "remembered"):
                self.remembered = super().quantized_weight().detach()
            return self.remembered


class StaleCodesInEvaluation(Sound):
    """Quantizes at the first evaluation and remembers, also after the weight was overwritten."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def quantized_weight(self) -> torch.Tensor:
            if self.training:
                return super().quantized_weight()
            if not hasattr(self, "remembered"):
                self.remembered = super().quantized_weight().detach()
            return self.remembered


class LatentWeightReplaced(Sound):
    """The optimizer steps from the quantized weight, so small steps are lost."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def weight_through(self) -> torch.Tensor:
            with torch.no_grad():
                self.weight.copy_(self.quantized_weight())
            return self.weight


class LatentWeightInHalfPrecision(Sound):
    """Keeps the latent weight in half precision."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.weight.copy_(self.weight.half().float())
            return super().forward(x)


class LatentWeightClipped(Sound):
    """Keeps the latent weights inside -1..1, as binary networks do."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.weight.register_post_accumulate_grad_hook(self.clip)  # type: ignore[no-untyped-call]

        def clip(self, weight: torch.Tensor) -> None:
            """The update of a query or key projection, clipped per head."""
            weight.data.clamp_(-1, 1)


class WeightIsNoParameter(Sound):
    """Trains something, but not what is called weight."""

    class layer_class(Training):  # noqa: N801
        """With the defect."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.latent = nn.Parameter(self.weight.detach().clone())

        @override
        def weight_through(self) -> torch.Tensor:
            quantized = self.quantized_weight()
            return self.latent + (quantized - self.latent).detach()
