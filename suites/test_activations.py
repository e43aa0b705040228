"""Activation quantization: absmax per token, to the declared range of integer codes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from jaxtyping import Float64
from torch import Tensor

from harness.evidence import Evidence
from harness.oracles import activation as oracle
from harness.subject import NotApplicable, QuantizesActivations, Subject, require
from suites.strategies import TokenRecipe, gaussian_matrix, token_recipes
from suites.weights import exact

pytestmark = pytest.mark.criterion("A.activation-quantization")

ZERO_TOKEN: Final = TokenRecipe("zero-row", tokens=3, features=5, seed=0)


def quantize(subject: Subject, x: Tensor) -> tuple[Tensor, Tensor]:
    return require(subject, QuantizesActivations).quantize_activation(x)


def span(subject: Subject) -> tuple[int, int]:
    """The closed range of codes that the subject declares."""
    if subject.declaration.activation_range is None:
        raise NotApplicable(f"{subject.declaration.name} keeps activations in floating point")
    return subject.declaration.activation_range


def limit(subject: Subject) -> int:
    """What the largest magnitude is scaled to: 127 for [-127, 127] and for [-128, 127], unless declared otherwise."""
    return subject.declaration.activation_top or span(subject)[1]


def reference_of(subject: Subject, x: Tensor) -> oracle.ReferenceActivation:
    """The float64 reference by the subject's declaration, codes clipped to its range."""
    rounding = 4 * torch.finfo(torch.float32).eps
    reference = oracle.quantize(exact(x), limit(subject), rounding, subject.declaration.activation_floor)
    return replace(reference, codes=reference.codes.clip(*span(subject)))


def bound_of(subject: Subject, x: Tensor) -> Float64[np.ndarray, "... 1"]:
    """The largest error that the declared rounding may leave."""
    clipped = limit(subject) - span(subject)[1]
    return oracle.error_bound(exact(x), limit(subject), subject.declaration.activation_floor, clipped)


@given(recipe=token_recipes())
@example(recipe=ZERO_TOKEN)
def test_codes_are_the_nearest_integers(subject: Subject, recipe: TokenRecipe) -> None:
    """Equal to the float64 reference wherever not within float32 rounding of a tie."""
    x = recipe.build()
    codes, scale = quantize(subject, x)
    reference = reference_of(subject, x)
    assert codes.dtype == torch.int8
    assert codes.shape == x.shape
    assert scale.shape == (*x.shape[:-1], 1)
    np.testing.assert_array_equal(codes.numpy()[reference.decided], reference.codes[reference.decided])
    floor = subject.declaration.activation_floor
    promised = exact(x).any(axis=-1) | (floor == 0)  # what a clamped token of zeros is divided by does not matter
    rounding = 2 * torch.finfo(scale.dtype).eps
    np.testing.assert_allclose(exact(scale)[promised], reference.scale[promised], rtol=rounding, atol=0)


@given(recipe=token_recipes())
def test_codes_stay_in_the_declared_range(subject: Subject, recipe: TokenRecipe) -> None:
    low, high = span(subject)
    codes, _ = quantize(subject, recipe.build())
    assert low <= int(codes.min())
    assert int(codes.max()) <= high


@given(recipe=token_recipes(), data=st.data())
def test_the_largest_magnitude_reaches_the_end_of_the_range(
    subject: Subject, recipe: TokenRecipe, data: st.DataObject
) -> None:
    """On either side: the sign of the largest entry decides which."""
    x = recipe.build()
    sign = data.draw(st.sampled_from((-1, 1)))
    column = data.draw(st.integers(0, recipe.features - 1))
    x[:, column] = sign * (x.abs().amax(dim=1) + 1)
    codes, _ = quantize(subject, x)
    low, high = span(subject)
    assert codes[:, column].tolist() == [min(max(sign * limit(subject), low), high)] * recipe.tokens


@given(recipe=token_recipes())
@example(recipe=ZERO_TOKEN)
def test_a_token_does_not_depend_on_the_others(subject: Subject, recipe: TokenRecipe) -> None:
    x = recipe.build()
    together, scales = quantize(subject, x)
    for token in range(recipe.tokens):
        alone, scale = quantize(subject, x[token : token + 1])
        assert torch.equal(alone[0], together[token])
        assert torch.equal(scale[0], scales[token])


@given(recipe=token_recipes(), exponent=st.integers(-30, 30))
@example(recipe=ZERO_TOKEN, exponent=-30)
def test_scaling_a_token_scales_only_its_scale(subject: Subject, recipe: TokenRecipe, exponent: int) -> None:
    """By powers of two that leave every token at or above the declared floor."""
    x = recipe.build()
    floor, sizes = subject.declaration.activation_floor, x.abs().amax(dim=-1)
    if floor > 0 and sizes.any():
        exponent = max(exponent, math.ceil(math.log2(floor / float(sizes[sizes > 0].min()))))
    plain, scaled = quantize(subject, x), quantize(subject, x * 2.0**exponent)
    assert torch.equal(scaled[0], plain[0])
    promised = (sizes > 0) | (floor == 0)
    assert torch.equal(scaled[1][promised], plain[1][promised] * 2.0**exponent)


@given(recipe=token_recipes())
@example(recipe=ZERO_TOKEN)
def test_negating_a_token_negates_its_codes(subject: Subject, recipe: TokenRecipe) -> None:
    """Exactly where the range is symmetric and no code is tied; the scale in every case."""
    x = recipe.build()
    plain, negated = quantize(subject, x), quantize(subject, -x)
    reference = reference_of(subject, x)
    symmetric = np.abs(reference.codes) < span(subject)[1] if limit(subject) > span(subject)[1] else True
    decided = torch.from_numpy(reference.decided & symmetric)
    assert torch.equal(negated[0][decided], -plain[0][decided])
    assert torch.equal(negated[1], plain[1])


@given(recipe=token_recipes())
@example(recipe=ZERO_TOKEN)
def test_error_is_at_most_half_a_step(subject: Subject, recipe: TokenRecipe) -> None:
    x = recipe.build()
    codes, scale = quantize(subject, x)
    error = np.abs(exact(codes) * exact(scale) - exact(x))
    rounding = torch.finfo(torch.float32).eps * np.abs(exact(x)).max(axis=-1, keepdims=True)
    assert (error <= bound_of(subject, x) + rounding).all()


def test_the_largest_error_on_gaussian_tokens(subject: Subject, seed: int, evidence: Evidence) -> None:
    """Over 256 tokens of 1024 features the bound absmax / (2 limit) is kept and nearly reached."""
    x = gaussian_matrix(256, 1024, seed)
    codes, scale = quantize(subject, x)
    share = (np.abs(exact(codes) * exact(scale) - exact(x)) / bound_of(subject, x)).max()
    evidence.figure("activation_error_over_bound", share)
    assert 0.99 <= share <= 1.0001


def test_a_zero_token_stays_zero_and_alone(subject: Subject, seed: int) -> None:
    x = gaussian_matrix(3, 16, seed)
    expected, _ = quantize(subject, x[[0, 2]])
    x[1] = 0
    codes, scale = quantize(subject, x)
    assert not codes[1].any()
    assert torch.isfinite(scale).all()
    assert torch.equal(codes[[0, 2]], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_float_formats_are_quantized_by_their_values(subject: Subject, dtype: torch.dtype, seed: int) -> None:
    """A half-precision token has the codes of the same values in float32, also near the format's largest number.

    Not asked of a subject that declares to compute in the format of its input.
    """
    if subject.declaration.half_precision == "rounded":
        raise NotApplicable(f"{subject.declaration.name} declares to compute in the format of its input")
    for factor in (1.0, 2.0**13):
        x = (gaussian_matrix(4, 33, seed).clamp(-7, 7) * factor).to(dtype)
        (codes, scale), (expected, expected_scale) = quantize(subject, x), quantize(subject, x.to(torch.float32))
        assert torch.equal(codes, expected)
        assert torch.equal(scale.to(torch.float32), expected_scale)


@pytest.mark.parametrize("shape", [(12,), (1, 12), (2, 3, 12), (2, 1, 3, 12)], ids=str)
def test_leading_dimensions_are_only_a_batch(subject: Subject, shape: tuple[int, ...], seed: int) -> None:
    flat = gaussian_matrix(6, 12, seed)[: int(np.prod(shape[:-1]))]
    codes, scale = quantize(subject, flat.reshape(shape))
    flat_codes, flat_scale = quantize(subject, flat)
    assert torch.equal(codes, flat_codes.reshape(shape))
    assert torch.equal(scale, flat_scale.reshape(*shape[:-1], 1))


@pytest.mark.criterion("A.bad-input")
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")], ids=["nan", "inf", "minus-inf"])
def test_a_token_that_is_not_finite_does_not_pass_as_numbers(subject: Subject, bad: float, seed: int) -> None:
    """Rejected, or still not finite after dequantization: never silently replaced by finite values."""
    x = gaussian_matrix(3, 16, seed)
    x[1, 5] = bad
    try:
        codes, scale = quantize(subject, x)
    except ValueError:
        return
    assert not torch.isfinite(codes[1] * scale[1]).all()
