"""Linear layers that train through the quantizers of their subject, and that run on stored codes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from typing_extensions import override

from harness.subject import WeightVariant


class Training(nn.Module):
    """A linear layer that trains through the quantizers of its subject by the identity."""

    subject: Any
    variant: WeightVariant
    quantize: bool

    def __init__(
        self, subject: Any, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant, quantize: bool
    ) -> None:
        super().__init__()
        self.subject, self.variant, self.quantize = subject, variant, quantize
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def quantized_weight(self) -> torch.Tensor:
        """The weight that its codes and scales stand for."""
        weight: torch.Tensor = self.subject.dequantize(
            self.subject.quantize_weight(self.weight, self.variant), self.variant
        )
        return weight

    def quantized_input(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs of a ternary layer as it multiplies them."""
        codes, scale = self.subject.quantize_activation(x)
        values: torch.Tensor = codes * scale
        return values

    def weight_through(self) -> torch.Tensor:
        """The weight as it multiplies, with its gradient."""
        return self.weight + (self.quantized_weight() - self.weight).detach()

    def input_through(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs as they are multiplied, with their gradient."""
        return x + (self.quantized_input(x) - x).detach()

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.quantize:
            return F.linear(x, self.weight, self.bias)
        return F.linear(self.input_through(x), self.weight_through(), self.bias)


class Inference(nn.Module):
    """The same layer on stored codes."""

    def __init__(self, subject: Any, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant) -> None:
        super().__init__()
        self.subject, self.variant, self.bias = subject, variant, bias
        self.quantized = subject.quantize_weight(weight, variant)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes, scale = self.subject.quantize_activation(x)
        return F.linear(codes * scale, self.subject.dequantize(self.quantized, self.variant), self.bias)


class Layers:
    """Makes layers."""

    layer_class: type[Training] = Training

    def training_linear(
        self, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant, quantize: bool = True
    ) -> nn.Module:
        """See `harness.subject.TrainsLinear`."""
        return self.layer_class(self, weight, bias, variant, quantize)

    def inference_linear(self, weight: torch.Tensor, bias: torch.Tensor | None, variant: WeightVariant) -> nn.Module:
        """See `harness.subject.InfersLinear`."""
        return Inference(self, weight, bias, variant)
