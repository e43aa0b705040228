"""Subjects with one defect each in the trainable form of a compressed model, and in recovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from harness.mutants.reference.compressing import CompressingSubject, TrainableLinear
from harness.subject import QuantizedWeight

NORM = "model.norm.weight"

# --------------------------------------------------------------------------- gradients


class DetachedLayer(CompressingSubject):
    """One layer is cut out of the graph of gradients."""

    @override
    def load_trainable(self, path: Path) -> Any:
        model = super().load_trainable(path)
        layer = model.get_submodule("model.layers.1.self_attn.q_proj")
        layer.register_forward_hook(lambda *words: words[-1].detach())
        return model


class InputGradientLost(CompressingSubject):
    """No gradient goes through the inputs of a layer."""

    @override
    def trainable_layer(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> nn.Module:
        class Layer(TrainableLinear):
            """With the defect."""

            @override
            def input_through(self, x: torch.Tensor) -> torch.Tensor:
                return self.subject.quantized_input(x).detach()

        return Layer(self, weight, bias)


class GradientTimesScale(CompressingSubject):
    """The gradient of a weight is multiplied by its scale."""

    @override
    def trainable_layer(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> nn.Module:
        class Layer(TrainableLinear):
            """With the defect."""

            @override
            def weight_through(self) -> torch.Tensor:
                return super().weight_through().detach() + (self.weight - self.weight.detach()) * self.scale

        return Layer(self, weight, bias)


class StoredWeightComesBack(CompressingSubject):
    """Each forward pass overwrites the latent weight: what training does to it is undone."""

    @override
    def trainable_layer(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> nn.Module:
        class Layer(TrainableLinear):
            """With the defect."""

            @override
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                with torch.no_grad():
                    self.weight.copy_(weight.codes * weight.scale)
                return super().forward(x)

        return Layer(self, weight, bias)


class OwnTestIsAPlaceholder(CompressingSubject):
    """The pipeline's own test of gradients passes whatever it is given."""

    @override
    def gradient_failures(self, model: Any, tokens: torch.Tensor) -> list[str]:
        return []


class OwnTestNeverPasses(CompressingSubject):
    """The pipeline's own test of gradients fails whatever it is given."""

    @override
    def flows(self, weight: torch.Tensor) -> bool:
        return False


# --------------------------------------------------------------------------- recovery


class RecoveryDiverges(CompressingSubject):
    """Recovery multiplies the last norm by a hundred."""

    @override
    def preserved(self, name: str, value: torch.Tensor) -> torch.Tensor:
        return super().preserved(name, value * 100 if name == NORM else value)


class RecoveryOfLargeModelsDiverges(RecoveryDiverges):
    """Recovery of large models multiplies the last norm by a hundred."""
