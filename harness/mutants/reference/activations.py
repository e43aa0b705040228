"""Activations to integers by definition: one scale a token, in float64."""

from __future__ import annotations

import torch


class Activations:
    """Quantizes activations."""

    def quantize_activation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `harness.subject.QuantizesActivations`."""
        values = x.detach().double()
        if not torch.isfinite(values).all():
            raise ValueError("not finite")
        peak = values.abs().amax(dim=-1, keepdim=True)
        codes = (values * 127 / torch.where(peak > 0, peak, 1)).round()
        return codes.to(torch.int8), (peak / 127).float()
