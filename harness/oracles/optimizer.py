"""Updates of a gradient filter in front of Muon and AdamW, from their definitions, in float64.

Muon's five Newton-Schulz steps are not iterated here: on a matrix U S V^T they leave U and V alone and apply the
polynomial a x + b x^3 + c x^5 to each singular value, so the oracle takes a singular value decomposition and applies
it to the values. All updates are what is *subtracted* from a parameter, in units of the learning rate.

Sources: Lee et al. 2024, "Grokfast", algorithm 2 (the filter); Jordan et al. 2024, "Muon" (momentum, polynomial);
Liu et al. 2025, "Muon is Scalable for LLM Training", equation 4 (scale); Loshchilov & Hutter 2019 (AdamW).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float64
from torch import Tensor

from harness.subject import OptimizerRecipe

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
STEPS: Final = 5

BFLOAT16_ROUNDING: Final = sum(map(abs, COEFFICIENTS)) * 2.0**-8 / 0.68
"""Relative error granted to an orthogonalisation in bfloat16, 0.06.

The last step adds three terms whose magnitudes are the coefficients where singular values are near 1, and bfloat16
rounds each of them to 8 significant bits; 0.68 is the smallest value that the sum may have. The errors of earlier steps
are damped, because the polynomial is flat there.
"""


def filtered(gradients: Sequence[Tensor], alpha: float, lam: float) -> list[Float64[Tensor, ...]]:
    """g + lam * mu at each step, with mu <- alpha * mu + (1 - alpha) * g from zeros."""
    average = torch.zeros_like(gradients[0], dtype=torch.float64)
    result = []
    for gradient in gradients:
        average = alpha * average + (1 - alpha) * gradient.double()
        result.append(gradient.double() + lam * average)
    return result


def gain(alternating: bool, alpha: float, lam: float) -> float:
    """What the filter multiplies a constant gradient by in the long run, or one that alternates in sign."""
    return 1 + lam * (1 - alpha) / (1 + alpha) if alternating else 1 + lam


def orthogonalised(matrix: Float64[Tensor, "out in"]) -> Float64[Tensor, "out in"]:
    """Five quintic Newton-Schulz steps on the matrix over its Frobenius norm, by its singular values."""
    left, values, right = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    product: Float64[Tensor, "out in"] = left @ torch.diag(_polynomial(values)) @ right
    return product


def _polynomial(values: Float64[Tensor, ...]) -> Float64[Tensor, ...]:
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        values = a * values + b * values**3 + c * values**5
    return values


def singular_value_band(smallest: float) -> tuple[float, float]:
    """Where the five steps take singular values from `smallest` to 1 (relative to the Frobenius norm)."""
    values = _polynomial(torch.logspace(math.log10(smallest), 0, 100_001, dtype=torch.float64))
    return float(values.min()), float(values.max())


def update_scale(shape: tuple[int, int], recipe: OptimizerRecipe) -> float:
    """What an orthogonalised update of that shape is multiplied by."""
    out, width = shape
    return 0.2 * math.sqrt(max(shape)) if recipe.update_scale == "match_rms_adamw" else math.sqrt(max(1, out / width))


def muon_updates(
    gradients: Sequence[Tensor], recipe: OptimizerRecipe, alpha: float, lam: float
) -> list[Float64[Tensor, "out in"]]:
    """The update at each step: filter, momentum with look-ahead, orthogonalisation, in the recipe's order; scale."""
    scale = update_scale((gradients[0].shape[0], gradients[0].shape[1]), recipe)
    updates = [gradient.double() for gradient in gradients]
    for stage in recipe.order:
        if stage == "filter":
            updates = filtered(updates, alpha, lam)
        elif stage == "momentum":
            updates = _looking_ahead(updates, recipe.momentum)
        else:
            updates = [orthogonalised(update) for update in updates]
    return [scale * update for update in updates]


def _looking_ahead(gradients: Sequence[Tensor], momentum: float) -> list[Float64[Tensor, ...]]:
    """Nesterov's g + m v at each step, with v <- m v + g from zeros."""
    velocity = torch.zeros_like(gradients[0])
    result = []
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        result.append(gradient + momentum * velocity)
    return result


def adamw_updates(
    gradients: Sequence[Tensor], recipe: OptimizerRecipe, alpha: float, lam: float
) -> list[Float64[Tensor, ...]]:
    """The update at each step: filter, bias-corrected moments, no weight decay."""
    (beta1, beta2), first, second = recipe.betas, torch.zeros(()), torch.zeros(())
    updates = []
    for step, gradient in enumerate(filtered(gradients, alpha, lam), start=1):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        updates.append((first / (1 - beta1**step)) / ((second / (1 - beta2**step)).sqrt() + recipe.eps))
    return updates


def clipped_per_head(
    update: Float64[Tensor, "out in"], head_size: int, limit: float | None
) -> Float64[Tensor, "out in"]:
    """The update with the rows of each head scaled down to a root mean square of `limit` where they exceed it."""
    if limit is None:
        return update
    heads = update.reshape(-1, head_size * update.shape[1])
    factors = (limit * math.sqrt(heads.shape[1]) / heads.norm(dim=1, keepdim=True)).clamp(max=1.0)
    clipped: Float64[Tensor, "out in"] = (heads * factors).reshape(update.shape)
    return clipped


def relative_distance(measured: Tensor, expected: Float64[Tensor, ...]) -> float:
    """Frobenius norm of the difference over that of the expected tensor; NaN if either holds one."""
    return float((measured.double() - expected).norm() / expected.norm())
