"""What the checks of weights share: operations in the conventions of the oracle, and the two ways to judge codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from harness.oracles import quantization as oracle
from harness.subject import (
    BadInput,
    NotApplicable,
    QuantizedWeight,
    QuantizesWeights,
    Subject,
    WeightVariant,
    require,
)
from suites.strategies import Kind

CONTINUOUS: Final[tuple[Kind, ...]] = ("gaussian", "heavy-tailed", "one-outlier")
"""Kinds of weights without exact ties, on which every rule, whatever it does at a tie, must be equivariant."""


def quantize(subject: Subject, weight: Tensor, variant: WeightVariant, h: Tensor | None = None) -> QuantizedWeight:
    return require(subject, QuantizesWeights).quantize_weight(weight, variant, h)


def dequantize(subject: Subject, weight: Tensor, variant: WeightVariant) -> Float[Tensor, "out in"]:
    return require(subject, QuantizesWeights).dequantize(quantize(subject, weight, variant), variant)


def exact(tensor: Tensor) -> Float64[np.ndarray, ...]:
    """The tensor's values as float64: lossless from every smaller format."""
    values: Float64[np.ndarray, ...] = tensor.detach().to(torch.float64).numpy()
    return values


def multiplier(subject: Subject, quantized: QuantizedWeight) -> Float64[np.ndarray, "rows groups"]:
    """The scales in the convention W ~ scale * codes, whichever the subject declares."""
    scale = exact(quantized.scale)
    if subject.declaration.scale_convention == "multiply":
        return scale
    inverse = np.zeros_like(scale)
    inverse[scale != 0] = 1.0 / scale[scale != 0]
    return inverse


def resolution(weight: Tensor, quantized: QuantizedWeight, variant: WeightVariant) -> float:
    """Relative rounding error granted to a scale: that of a pairwise mean in the format that stores it."""
    _, largest = max(
        oracle.blocks((weight.shape[0], weight.shape[1]), variant), key=lambda block: weight[block[1]].numel()
    )
    return oracle.mean_resolution(weight[largest].numel(), torch.finfo(quantized.scale.dtype).eps)


def declared_scale(
    weight: Tensor, quantized: QuantizedWeight, variant: WeightVariant
) -> Float64[np.ndarray, "rows groups"]:
    """What the scales must be: mean|W| or max|W| of each block, or the least-squares scale of its codes."""
    if variant.scale_rule in ("absmean", "absmax"):
        return oracle.magnitude(exact(weight), variant)
    return oracle.least_squares_scale(exact(weight), quantized.codes.numpy(), variant, np.ones(weight.shape[1]))


def assert_codes_follow_the_rule(weight: Tensor, quantized: QuantizedWeight, variant: WeightVariant) -> None:
    """Equal to the oracle wherever decided (border rules); one threshold per block, as good as the best (search)."""
    if variant.rule not in oracle.RULES:
        raise NotApplicable(f"no reference knows the rule {variant.rule!r}")
    rounding = resolution(weight, quantized, variant)
    if variant.rule != "optimal":
        reference = oracle.reference_codes(exact(weight), variant, rounding)
        wrong = (quantized.codes.numpy() != reference.codes) & reference.decided
        assert not wrong.any(), f"{wrong.sum()} codes differ from the rule, first at {np.argwhere(wrong)[0]}"
        return
    assert oracle.floor_violations(exact(weight), quantized.codes.numpy(), variant, rounding) == 0
    assert_search_is_exact(weight, quantized, variant, torch.ones(weight.shape[1]))


def assert_search_is_exact(weight: Tensor, quantized: QuantizedWeight, variant: WeightVariant, h: Tensor) -> None:
    """No allowed threshold gives a smaller weighted error than the subject's codes with their best scale."""
    values, codes, importance = exact(weight), quantized.codes.numpy(), exact(h)
    scale = oracle.least_squares_scale(values, codes, variant, importance)
    errors = oracle.weighted_error(values, codes * oracle.spread(scale, values.shape, variant), variant, importance)
    spread_importance = np.broadcast_to(importance, values.shape)
    for place, covered in oracle.blocks(values.shape, variant):
        block, block_codes = values[covered].ravel(), codes[covered].ravel()
        assert oracle.threshold_structured(block, block_codes), f"no single threshold explains block {place}"
        rounding = resolution(weight, quantized, variant)
        best = oracle.best_threshold(block, spread_importance[covered].ravel(), variant.tau or 0.0, rounding)
        if best.feasible:
            slack = 1e-6 * float(np.sum(spread_importance[covered] * values[covered] ** 2))
            zeros = int(np.sum(block_codes == 0))
            assert oracle.zeros_allowed(block.size, zeros), f"{zeros} of {block.size} zeros: outside the 5-45 % band"
            assert errors[place] <= best.error + slack, f"block {place}: {errors[place]} where {best.error} is possible"


def require_promise(subject: Subject, kind: BadInput) -> None:
    """Not applicable to a subject that does not promise to reject bad input of this kind."""
    if kind not in subject.declaration.rejects:
        raise NotApplicable(f"{subject.declaration.name} does not promise to reject bad {kind}")


def rejected(operation: Callable[..., object], *arguments: object) -> None:
    """The operation raises ValueError (or a subclass) on these arguments and says something."""
    with pytest.raises(ValueError, match=r"\S"):
        operation(*arguments)
