"""Weight quantization: ternary codes, their scales, and what happens at the borders, for every declared variant.

Each check holds a subject to the rule that it declares. The references are float64 and brute force
(`harness.oracles.quantization`); a code is compared wherever it is not within float rounding of a tie.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from harness.evidence import Evidence
from harness.oracles import quantization as oracle
from harness.subject import NotApplicable, QuantizesWeights, Subject, WeightVariant, require
from suites.strategies import WeightRecipe, gaussian_matrix, weight_recipes
from suites.variants import of_border_rules, with_groups, with_scales_per_row
from suites.weights import (
    CONTINUOUS,
    assert_codes_follow_the_rule,
    declared_scale,
    dequantize,
    exact,
    multiplier,
    quantize,
    rejected,
    require_promise,
    resolution,
)

codes_criteria = pytest.mark.criterion("1.1.ternary-quantization", "1.2.ternary-quantization")
FORMATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
as_declared = pytest.mark.criterion("A.as-declared")
scale_criteria = pytest.mark.criterion("1.1.per-channel-scaling", "1.2.per-channel-scaling")
row_criteria = pytest.mark.criterion("1.1.per-channel-scaling", "2.per-channel-scaling")
ZERO_ROW: Final = WeightRecipe("zero-row", rows=3, groups=1, remainder=3, seed=0)
OUTLIER_IN_ANOTHER_ROW: Final = WeightRecipe("one-outlier", rows=3, groups=1, remainder=0, seed=0)
SINGLE_WEIGHTS: Final = WeightRecipe("equal-magnitudes", rows=4, groups=0, remainder=1, seed=0)
bad_input_criteria = pytest.mark.criterion("A.bad-input", "1.1.ternary-quantization")


# --------------------------------------------------------------------------- codes


@codes_criteria
@given(recipe=weight_recipes())
@example(recipe=ZERO_ROW)
@example(recipe=OUTLIER_IN_ANOTHER_ROW)
@example(recipe=SINGLE_WEIGHTS)
def test_codes_are_ternary_int8_and_never_vanish(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe
) -> None:
    weight = recipe.build(variant)
    codes = quantize(subject, weight, variant).codes
    assert codes.dtype == torch.int8
    assert codes.shape == weight.shape
    assert set(codes.flatten().tolist()) <= {-1, 0, 1}
    for place, covered in oracle.blocks((weight.shape[0], weight.shape[1]), variant):
        assert codes[covered].any() or not weight[covered].any(), f"block {place} has weights but all its codes are 0"


@codes_criteria
@as_declared
@given(recipe=weight_recipes())
def test_codes_follow_the_declared_rule(subject: Subject, variant: WeightVariant, recipe: WeightRecipe) -> None:
    weight = recipe.build(variant)
    assert_codes_follow_the_rule(weight, quantize(subject, weight, variant), variant)


@codes_criteria
@as_declared
@of_border_rules
def test_a_tie_goes_where_the_tie_rule_says(subject: Subject, variant: WeightVariant) -> None:
    """Weights with mean|W| (or max|W|) = 1 exactly, half of them exactly on the border between two codes."""
    variant = replace(variant, tau=0.25) if variant.rule == "threshold" else variant
    border = 0.25 if variant.rule == "threshold" else 0.5
    largest = 1 if variant.rule == "absmax" else 2 - border
    pattern = torch.tensor([[border, -border, largest, -largest]])
    codes = quantize(subject, pattern.repeat(3, variant.group_size or 4), variant).codes
    at_tie = [oracle.code_at_tie(sign, variant.tie_rule) for sign in (1, -1)]
    assert codes[:, :4].tolist() == [[*at_tie, 1, -1]] * 3


@codes_criteria
@given(recipe=weight_recipes())
@example(recipe=ZERO_ROW)
def test_quantizing_the_quantized_weight_changes_no_code(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe
) -> None:
    weight = recipe.build(variant)
    once = quantize(subject, weight, variant)
    again = quantize(subject, require(subject, QuantizesWeights).dequantize(once, variant), variant)
    assert torch.equal(again.codes, once.codes)


# --------------------------------------------------------------------------- scales


@scale_criteria
@as_declared
@given(recipe=weight_recipes())
@example(recipe=ZERO_ROW)
def test_scales_follow_the_declared_definition(subject: Subject, variant: WeightVariant, recipe: WeightRecipe) -> None:
    """mean|W| over all the weights of the block, zeros included, or max|W|, or the least-squares scale of the codes.

    A block without weights is left out where scales are clamped from below.
    """
    weight = recipe.build(variant)
    quantized = quantize(subject, weight, variant)
    expected = declared_scale(weight, quantized, variant)
    tolerance = resolution(weight, quantized, variant)
    promised = (expected > 0) | (variant.scale_range[0] == 0)
    np.testing.assert_allclose(multiplier(subject, quantized)[promised], expected[promised], rtol=tolerance, atol=0)


@pytest.mark.criterion("1.2.per-channel-scaling")
def test_scales_are_exact_to_float32(subject: Subject, variant: WeightVariant, seed: int, evidence: Evidence) -> None:
    """The largest relative error of any scale, over four shapes of 2 to 150,000 weights and four float formats.

    Two formats where the subject declares to compute half precision in half precision.
    """
    if variant.scale_format != "float32":
        raise NotApplicable(f"{subject.declaration.name} declares scales in {variant.scale_format}")
    rounded = subject.declaration.half_precision == "rounded"
    errors = []
    for shape in ((2, 1), (3, 40), (64, 129), (96, 1536)):
        for dtype in FORMATS[2:] if rounded else FORMATS:
            weight = gaussian_matrix(*shape, seed).to(dtype)
            quantized = quantize(subject, weight, variant)
            expected = declared_scale(weight, quantized, variant)
            errors.append(np.max(np.abs(multiplier(subject, quantized) - expected) / expected))
    evidence.figure("scale_relative_error", max(errors))
    assert max(errors) <= 1e-6


@pytest.mark.criterion("2.per-channel-scaling")
@given(recipe=weight_recipes())
@example(recipe=ZERO_ROW)
def test_every_block_has_one_finite_scale(subject: Subject, variant: WeightVariant, recipe: WeightRecipe) -> None:
    """Positive where the block has a weight, 0 where it has none: never NaN, never infinite, never negative.

    Clamped from below, it may be positive in any block.
    """
    weight = recipe.build(variant)
    quantized = quantize(subject, weight, variant)
    shape = (weight.shape[0], weight.shape[1])
    assert quantized.scale.shape == oracle.grid_shape(shape, variant)
    assert torch.isfinite(quantized.scale).all()
    for place, covered in oracle.blocks(shape, variant):
        positive = bool(quantized.scale[place] > 0)
        expected = bool(weight[covered].any()) or (positive and variant.scale_range[0] > 0)
        assert positive == expected, f"block {place} has scale {quantized.scale[place]}"


@scale_criteria
@as_declared
@given(recipe=weight_recipes())
@example(recipe=ZERO_ROW)
def test_dequantized_weight_is_scale_times_codes(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe
) -> None:
    weight = recipe.build(variant)
    quantized = quantize(subject, weight, variant)
    restored = require(subject, QuantizesWeights).dequantize(quantized, variant)
    scale = oracle.spread(multiplier(subject, quantized), (weight.shape[0], weight.shape[1]), variant)
    np.testing.assert_allclose(exact(restored), scale * exact(quantized.codes), rtol=torch.finfo(restored.dtype).eps)


@row_criteria
@with_groups
@given(recipe=weight_recipes(kinds=CONTINUOUS))
def test_a_ragged_tail_is_a_group_of_its_own(subject: Subject, variant: WeightVariant, recipe: WeightRecipe) -> None:
    weight = recipe.build(variant)
    size = variant.group_size or weight.shape[1]
    whole = quantize(subject, weight, variant)
    for index, start in enumerate(range(0, weight.shape[1], size)):
        alone = quantize(subject, weight[:, start : start + size], variant)
        assert torch.equal(alone.codes, whole.codes[:, start : start + size])
        assert torch.equal(alone.scale[:, 0], whole.scale[:, index])


@row_criteria
@with_scales_per_row
@given(recipe=weight_recipes(kinds=CONTINUOUS))
def test_rows_are_quantized_independently(subject: Subject, variant: WeightVariant, recipe: WeightRecipe) -> None:
    weight = recipe.build(variant)
    whole = quantize(subject, weight, variant)
    for row in range(weight.shape[0]):
        alone = quantize(subject, weight[row : row + 1], variant)
        assert torch.equal(alone.codes[0], whole.codes[row])
        assert torch.equal(alone.scale[0], whole.scale[row])


# --------------------------------------------------------------------------- equivariances


@scale_criteria
@given(recipe=weight_recipes(), exponent=st.integers(-40, 40))
@example(recipe=ZERO_ROW, exponent=-40)
def test_scaling_the_weight_scales_only_the_scale(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe, exponent: int
) -> None:
    """Powers of two are exact in floating point, so the codes stay and the scale follows to the last bit.

    The power is drawn nearer to 0 where the scale would leave the range that the subject declares.
    """
    weight = recipe.build(variant)
    lowest, highest = oracle.exponents_in_range(exact(weight), variant)
    assume(lowest <= 0 <= highest)
    exponent = int(min(max(exponent, lowest), highest))
    plain, scaled = quantize(subject, weight, variant), quantize(subject, weight * 2.0**exponent, variant)
    assert torch.equal(scaled.codes, plain.codes)
    promised = (oracle.magnitude(exact(weight), variant) > 0) | (variant.scale_range[0] == 0)
    expected = multiplier(subject, plain) * 2.0**exponent
    np.testing.assert_array_equal(multiplier(subject, scaled)[promised], expected[promised])


@codes_criteria
@given(recipe=weight_recipes(kinds=CONTINUOUS))
def test_negating_the_weight_negates_the_codes(subject: Subject, variant: WeightVariant, recipe: WeightRecipe) -> None:
    weight = recipe.build(variant)
    plain, negated = quantize(subject, weight, variant), quantize(subject, -weight, variant)
    assert torch.equal(negated.codes, -plain.codes)
    assert torch.equal(negated.scale, plain.scale)


@scale_criteria
@given(recipe=weight_recipes(kinds=CONTINUOUS))
def test_permuting_rows_permutes_codes_and_scales(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe
) -> None:
    weight = recipe.build(variant)
    order = torch.from_numpy(np.random.default_rng(recipe.seed).permutation(weight.shape[0]))
    plain, permuted = quantize(subject, weight, variant), quantize(subject, weight[order], variant)
    assert torch.equal(permuted.codes, plain.codes[order])
    expected = plain.scale if variant.granularity == "tensor" else plain.scale[order]
    torch.testing.assert_close(permuted.scale, expected, rtol=resolution(weight, plain, variant), atol=0)


@scale_criteria
@given(recipe=weight_recipes(kinds=CONTINUOUS))
def test_permuting_columns_inside_a_block_permutes_its_codes(
    subject: Subject, variant: WeightVariant, recipe: WeightRecipe
) -> None:
    weight = recipe.build(variant)
    width = min(variant.group_size or weight.shape[1], weight.shape[1])
    order = torch.arange(weight.shape[1])
    order[:width] = torch.from_numpy(np.random.default_rng(recipe.seed).permutation(width))
    plain, permuted = quantize(subject, weight, variant), quantize(subject, weight[:, order], variant)
    assert torch.equal(permuted.codes, plain.codes[:, order])
    torch.testing.assert_close(permuted.scale, plain.scale, rtol=resolution(weight, plain, variant), atol=0)


# --------------------------------------------------------------------------- borders of the input space


@scale_criteria
def test_zero_blocks_stay_exactly_zero(subject: Subject, variant: WeightVariant, seed: int) -> None:
    """A zero row (or group, or tensor) becomes exact zeros, without NaN and without touching its neighbours."""
    weight = gaussian_matrix(3, 2 * (variant.group_size or 16) + 3, seed)
    weight[1] = 0
    weight[2, : variant.group_size or 16] = 0
    restored = dequantize(subject, weight, variant)
    assert torch.isfinite(restored).all()
    assert not restored[weight == 0].any()
    assert restored[0].any()
    assert not dequantize(subject, torch.zeros(2, 5), variant).any()


@codes_criteria
@pytest.mark.parametrize("exponent", [126, -100, -140], ids=["near-overflow", "tiny", "subnormal"])
def test_extreme_magnitudes_keep_their_codes(
    subject: Subject, variant: WeightVariant, exponent: int, seed: int
) -> None:
    """Eighths below 2 in magnitude, times 2**126 (sums overflow float32), 2**-100, or 2**-140 (subnormal numbers)."""
    lattice = (gaussian_matrix(4, 2 * (variant.group_size or 16) + 3, seed) * 8).round().clamp(-15, 15) / 8
    lowest, highest = oracle.exponents_in_range(exact(lattice), variant)
    if not lowest <= exponent <= highest:
        raise NotApplicable(f"{subject.declaration.name} declares scales within {variant.scale_range}")
    weight = lattice * 2.0**exponent
    quantized = quantize(subject, weight, variant)
    assert torch.equal(quantized.codes, quantize(subject, lattice, variant).codes)
    smallest_step = 2.0**-149
    scale = multiplier(subject, quantize(subject, lattice, variant)) * 2.0**exponent
    np.testing.assert_allclose(multiplier(subject, quantized), scale, rtol=0, atol=smallest_step)


@codes_criteria
@given(recipe=weight_recipes())
@example(recipe=ZERO_ROW)
def test_memory_layout_does_not_matter(subject: Subject, variant: WeightVariant, recipe: WeightRecipe) -> None:
    weight = recipe.build(variant)
    before, expected = weight.clone(), quantize(subject, weight, variant)
    strided = torch.zeros(weight.shape[0], 2 * weight.shape[1])[:, ::2].copy_(weight)
    for view in (weight.T.contiguous().T, strided):
        seen = quantize(subject, view, variant)
        assert torch.equal(seen.codes, expected.codes)
        torch.testing.assert_close(seen.scale, expected.scale, rtol=resolution(weight, expected, variant), atol=0)
    assert torch.equal(weight, before), "quantizing changed the weight that it was given"


@codes_criteria
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_every_float_format_is_quantized_by_its_exact_values(
    subject: Subject, variant: WeightVariant, dtype: torch.dtype, seed: int
) -> None:
    weight = gaussian_matrix(4, 2 * (variant.group_size or 16) + 3, seed).to(dtype)
    quantized = quantize(subject, weight, variant)
    assert quantized.codes.dtype == torch.int8
    assert_codes_follow_the_rule(weight, quantized, variant)


@bad_input_criteria
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")], ids=["nan", "inf", "minus-inf"])
@pytest.mark.parametrize("place", [(0, 0), (1, 7), (2, 18)], ids=["first", "middle", "last"])
def test_a_weight_that_is_not_finite_is_rejected(
    subject: Subject, variant: WeightVariant, bad: float, place: tuple[int, int], seed: int
) -> None:
    """By a subject that promises to; by any other it is at least not replaced by finite numbers."""
    weight = gaussian_matrix(3, 19, seed)
    weight[place] = bad
    if "weights" in subject.declaration.rejects:
        rejected(quantize, subject, weight, variant)
    else:
        assert not torch.isfinite(dequantize(subject, weight, variant)).all()


@bad_input_criteria
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (8,), (2, 3, 4)], ids=str)
def test_a_weight_that_is_not_a_matrix_is_rejected(
    subject: Subject, variant: WeightVariant, shape: tuple[int, ...]
) -> None:
    require_promise(subject, "weights")
    rejected(quantize, subject, torch.ones(shape), variant)
