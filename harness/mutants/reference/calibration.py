"""Second moments of the inputs of layers, in float64, over windows of a text that a seed draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


class Calibration:
    """Measures second moments; each step is a method that a defect can replace."""

    def second_moments(
        self, model: Any, tokenizer: Any, text: str, samples: int, tokens: int, seed: int | None
    ) -> dict[str, torch.Tensor]:
        """See `harness.subject.Calibrates`."""
        windows = self.draw(tokenizer.encode(text), samples, tokens, seed)
        inputs: dict[str, list[torch.Tensor]] = {name: [] for name in self.calibrated_layers(model)}
        hooks = [
            model.get_submodule(name).register_forward_pre_hook(
                lambda _, given, seen=seen: seen.append(self.token_squares(given[0].flatten(0, -2)))
            )
            for name, seen in inputs.items()
        ]
        with torch.no_grad():
            for window in windows:
                model(torch.tensor([window]))
        self.remove(hooks)
        return {name: self.average(seen) for name, seen in inputs.items()}

    def draw(self, encoded: list[int], samples: int, tokens: int, seed: int | None) -> list[list[int]]:
        """Windows of consecutive tokens."""
        if len(encoded) < tokens:
            raise ValueError("the text is shorter than a sample")
        starts = np.random.default_rng(seed).integers(len(encoded) - tokens + 1, size=samples)
        return [encoded[start : start + tokens] for start in starts]

    def calibrated_layers(self, model: Any) -> list[str]:
        """The names of the layers inside the blocks."""
        return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".layers." in name]

    def token_squares(self, x: torch.Tensor) -> torch.Tensor:
        """The square of each input of each token."""
        return x.double().square()

    def average(self, seen: list[torch.Tensor]) -> torch.Tensor:
        """The mean over all tokens of all windows."""
        return torch.cat(seen).mean(dim=0).float()

    def remove(self, hooks: list[Any]) -> None:
        """Take the hooks off."""
        for hook in hooks:
            hook.remove()
