import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from bitnet.errors import BitnetError
from bitnet.quantizer import (
    TernaryWeight,
    activation_ste,
    quantize_activation,
    quantize_weight,
    weight_ste,
)

RULES = ["threshold", "absmean", "optimal"]
GRANULARITIES = ["tensor", "channel", "group"]
examples = settings(derandomize=True, max_examples=40, deadline=None)

# Few distinct values make ties and zeros common; the float strategy covers the whole range of float32.
coarse = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(-4, 4))
finite = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
matrices = (coarse | finite).map(torch.from_numpy)


def scale_groups(weight: Tensor, granularity: str, group_size: int) -> list[list[tuple[slice, slice]]]:
    """For each entry of the scale matrix, the rows and columns of the weight that it covers."""
    out, width = weight.shape
    if granularity == "tensor":
        return [[(slice(0, out), slice(0, width))]]
    step = width if granularity == "channel" else group_size
    starts = range(0, width, step)
    return [[(slice(row, row + 1), slice(start, min(start + step, width))) for start in starts] for row in range(out)]


def exact_mean(values: np.ndarray) -> float:
    return math.fsum(np.abs(values.astype(np.float64)).ravel().tolist()) / values.size


def zero_distance(zeros: int, n: int) -> int:
    """Twentieths of a weight by which a zero count misses the band of 5-45 %."""
    return max(0, n - 20 * zeros, 20 * zeros - 9 * n)


def brute_force(row: np.ndarray, h: np.ndarray, floor: float) -> tuple[int, float]:
    """Distance to the zero band and weighted error of the best threshold, by trying each one."""
    candidates = []
    for smallest in {m for m in np.abs(row) if m > floor}:
        on = np.abs(row) >= smallest
        a = float((h * np.abs(row))[on].sum() / h[on].sum())
        error = float((h * (row - a * np.sign(row) * on) ** 2).sum())
        candidates.append((zero_distance(int((~on).sum()), row.size), error))
    return min(candidates)


@examples
@given(weight=matrices, granularity=st.sampled_from(GRANULARITIES), group_size=st.integers(1, 30))
@pytest.mark.parametrize("rule", RULES)
def test_shapes_dtypes_and_zero_groups(rule: str, weight: Tensor, granularity: str, group_size: int) -> None:
    ternary = quantize_weight(weight, rule, granularity, group_size)
    groups = scale_groups(weight, granularity, group_size)
    assert ternary.codes.shape == weight.shape
    assert (ternary.codes.dtype, ternary.scale.dtype) == (torch.int8, torch.float32)
    assert ternary.scale.shape == (len(groups), len(groups[0]))
    assert ternary.group_size == (group_size if granularity == "group" else None)
    assert torch.isin(ternary.codes, torch.tensor([-1, 0, 1], dtype=torch.int8)).all()
    assert torch.isfinite(ternary.scale).all()
    dequantized = ternary.dequantize()
    for r, row in enumerate(groups):
        for c, (rows, columns) in enumerate(row):
            scale, codes = ternary.scale[r, c], ternary.codes[rows, columns]
            zero = bool((weight[rows, columns] == 0).all())
            assert (float(scale) == 0.0) == zero
            assert bool((codes == 0).all()) >= zero
            assert torch.equal(dequantized[rows, columns], scale * codes)


@examples
@given(weight=matrices, granularity=st.sampled_from(GRANULARITIES), tau=st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]))
def test_threshold_and_absmean_follow_their_definitions(weight: Tensor, granularity: str, tau: float) -> None:
    threshold = quantize_weight(weight, "threshold", granularity, 5, tau)
    absmean = quantize_weight(weight, "absmean", granularity, 5)
    assert torch.equal(threshold.scale, absmean.scale)
    for r, row in enumerate(scale_groups(weight, granularity, 5)):
        for c, (rows, columns) in enumerate(row):
            w = weight[rows, columns].double()
            mean = exact_mean(w.numpy())
            assert float(threshold.scale[r, c]) == pytest.approx(mean, rel=2**-23, abs=2**-149)
            # Magnitudes within float64 rounding of the threshold may fall on either side of it.
            clear = ((w.abs() - tau * mean).abs() > 1e-14 * mean) | (w == 0)
            assert torch.equal(
                threshold.codes[rows, columns][clear], (w.sign() * (w.abs() > tau * mean)).to(torch.int8)[clear]
            )
            clear = ((w.abs() - 0.5 * mean).abs() > 1e-14 * mean) | (w == 0)
            rounded = (w / mean if mean else w).round().clamp(-1, 1).to(torch.int8)
            assert torch.equal(absmean.codes[rows, columns][clear], rounded[clear])


def test_ties_fall_as_declared() -> None:
    weight = torch.tensor([[2.0, 1.0, -1.0, 0.5, -0.5, 1.0]])  # mean|W| = 1
    assert quantize_weight(weight, "absmean").codes.tolist() == [[1, 1, -1, 0, 0, 1]]
    assert quantize_weight(weight, "threshold", tau=0.5).codes.tolist() == [[1, 1, -1, 0, 0, 1]]
    assert quantize_weight(weight, "threshold", tau=1.0).codes.tolist() == [[1, 0, 0, 0, 0, 0]]
    assert quantize_weight(weight, "threshold", tau=0.0).codes.tolist() == [[1, 1, -1, 1, -1, 1]]


@examples
@given(
    weight=matrices,
    granularity=st.sampled_from(GRANULARITIES),
    tau=st.sampled_from([0.0, 0.05, 0.5, 0.9]),
    seed=st.none() | st.integers(0, 99),
)
def test_optimal_is_the_best_of_all_thresholds(weight: Tensor, granularity: str, tau: float, seed: int | None) -> None:
    h = None
    if seed is not None:
        h = torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(seed)) + 0.01
    ternary = quantize_weight(weight, "optimal", granularity, 5, tau, h)
    for r, row in enumerate(scale_groups(weight, granularity, 5)):
        for c, (rows, columns) in enumerate(row):
            w = weight[rows, columns].double().numpy()
            moments = np.ones_like(w) if h is None else np.broadcast_to(h[columns].double().numpy(), w.shape)
            floor = tau * exact_mean(w)
            codes = ternary.codes[rows, columns].numpy()
            if not w.any():
                continue
            kept = np.abs(w)[codes != 0]
            dropped = np.abs(w)[codes == 0]
            assert kept.min() > floor * (1 - 1e-14)
            assert kept.min() > dropped.max(initial=0.0)
            assert (codes == np.sign(w) * (codes != 0)).all()
            distance, error = brute_force(w.ravel(), moments.ravel(), floor)
            assert zero_distance(int((codes == 0).sum()), w.size) <= distance
            found = float((moments * (w - float(ternary.scale[r, c]) * codes) ** 2).sum())
            # Relative 1e-6: the scale is stored in float32 (at worst one subnormal step off).
            assert found <= error * (1 + 1e-6) + 1e-13 * float((moments * w**2).sum()) + moments.sum() * 2.0**-298


def test_optimal_keeps_its_zeros_inside_the_band() -> None:
    generator = torch.Generator().manual_seed(0)
    heavy = torch.randn(64, 200, generator=generator) ** 3  # wants far more than 45 % zeros
    flat = torch.rand(64, 200, generator=generator) + 3.0  # wants none
    for weight, edge in ((heavy, 0.45), (flat, 0.05)):
        zeros = (quantize_weight(weight, "optimal", tau=0.0).codes == 0).double().mean(dim=1)
        assert torch.equal(zeros, torch.full_like(zeros, edge))


def test_optimal_beats_the_other_rules_by_the_known_margins_on_gaussian_weights() -> None:
    weight = torch.randn(64, 4096, generator=torch.Generator().manual_seed(1))

    def relative_error(rule: str, tau: float) -> float:
        return float(((quantize_weight(weight, rule, tau=tau).dequantize() - weight) ** 2).sum() / (weight**2).sum())

    assert relative_error("threshold", 0.1) == pytest.approx(0.327, abs=0.002)
    assert relative_error("absmean", 0.1) == pytest.approx(0.264, abs=0.002)
    assert relative_error("optimal", 0.1) == pytest.approx(0.190, abs=0.002)


def test_calibration_steers_the_optimum() -> None:
    weight = torch.tensor([[4.0, 3.0, 2.0, 1.5, 1.0, 0.5]])
    assert quantize_weight(weight, tau=0.0).codes.tolist() == [[1, 1, 1, 1, 0, 0]]
    small_ones_matter = torch.tensor([0.01, 0.01, 1.0, 1.0, 9.0, 0.0])
    steered = quantize_weight(weight, tau=0.0, second_moment=small_ones_matter)
    assert steered.codes.tolist() == [[1, 1, 1, 1, 1, 0]]
    assert float(steered.scale) == pytest.approx((0.04 + 0.03 + 2.0 + 1.5 + 9.0) / 11.02, rel=1e-6)


def test_features_that_calibration_never_saw() -> None:
    weight = torch.tensor([[4.0, 3.0, 2.0, 1.5, 1.0, 0.5]])
    assert torch.equal(
        quantize_weight(weight, second_moment=torch.zeros(6)).dequantize(), quantize_weight(weight).dequantize()
    )
    # Only a weight below the threshold was seen: the scale is the plain mean of the support.
    ternary = quantize_weight(weight, tau=0.9, second_moment=torch.tensor([0.0, 0, 0, 0, 0, 1]))
    support = weight[ternary.codes != 0]
    assert float(ternary.scale) == pytest.approx(float(support.mean()), rel=1e-6)


def test_weights_that_calibration_never_saw_do_not_decide_even_where_they_alone_would_keep_the_band() -> None:
    weight = torch.tensor([[10.0, 9, 8, 7, 6, 5, 1, 1.5, 2, 2.5]])
    ternary = quantize_weight(weight, tau=0.0, second_moment=torch.tensor([0.0] * 6 + [1.0] * 4))
    assert ternary.codes.tolist() == [[1, 1, 1, 1, 1, 1, 0, 1, 1, 1]]
    assert float(ternary.scale) == 2.0


def test_equal_magnitudes_at_the_threshold_leave_no_support() -> None:
    ternary = quantize_weight(torch.full((1, 8), -2.0), "optimal", tau=1.0)
    assert not ternary.codes.any()
    assert float(ternary.scale) == 0.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_extremes_neither_overflow_nor_vanish(rule: str, granularity: str) -> None:
    largest, smallest = torch.finfo(torch.float32).max, 2.0**-149
    for dtype in (torch.float32, torch.float64):
        huge = quantize_weight(torch.full((3, 7), largest, dtype=dtype), rule, granularity, 4)
        assert torch.equal(huge.dequantize(), torch.full((3, 7), largest))
    tiny = quantize_weight(torch.full((3, 7), -smallest), rule, granularity, 4)
    assert torch.equal(tiny.dequantize(), torch.full((3, 7), -smallest))
    lonely = torch.zeros(1, 9)
    lonely[0, 4] = smallest  # its mean is not representable in float32
    assert torch.equal(quantize_weight(lonely, rule, granularity, 9).dequantize(), lonely)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_dtype_and_stride(rule: str, granularity: str, dtype: torch.dtype) -> None:
    weight = torch.randn(13, 10, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16).to(torch.float16)
    moments = torch.rand(10, generator=torch.Generator().manual_seed(3))
    expected = quantize_weight(weight.float(), rule, granularity, 4, second_moment=moments)
    doubled = torch.zeros(20, 26, dtype=dtype)
    doubled[::2, ::2] = weight.T.to(dtype)
    for given_weight in (weight.to(dtype), weight.T.contiguous().T.to(dtype), doubled[::2, ::2].T):
        ternary = quantize_weight(given_weight, rule, granularity, 4, second_moment=moments)
        assert torch.equal(ternary.codes, expected.codes)
        assert torch.equal(ternary.scale, expected.scale)


@examples
@given(weight=coarse.map(torch.from_numpy), exponent=st.integers(-60, 60), seed=st.integers(0, 99))
@pytest.mark.parametrize("rule", RULES)
def test_equivariance(rule: str, weight: Tensor, exponent: int, seed: int) -> None:
    """Powers of two, row order and sign pass through exactly."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(weight.shape[0], generator=generator)
    for granularity in GRANULARITIES:
        ternary = quantize_weight(weight, rule, granularity, 7)
        scaled = quantize_weight(weight * -(2.0**exponent), rule, granularity, 7)
        assert torch.equal(scaled.codes, -ternary.codes)
        assert torch.equal(scaled.scale, ternary.scale * 2.0**exponent)
        permuted = quantize_weight(weight[rows], rule, granularity, 7)
        assert torch.equal(permuted.dequantize(), ternary.dequantize()[rows])


@examples
@given(weight=coarse.map(torch.from_numpy))
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_optimal_is_idempotent(weight: Tensor, granularity: str) -> None:
    once = quantize_weight(weight, "optimal", granularity, 6)
    twice = quantize_weight(once.dequantize(), "optimal", granularity, 6)
    assert torch.equal(once.codes, twice.codes)
    torch.testing.assert_close(twice.scale, once.scale, rtol=2**-23, atol=0)


def test_chunks_agree_with_the_whole() -> None:
    weight = torch.randn(700, 400, generator=torch.Generator().manual_seed(4))
    for granularity in GRANULARITIES:
        ternary = quantize_weight(weight, "threshold", granularity, 150)
        if granularity != "tensor":
            parts = [quantize_weight(rows, "threshold", granularity, 150) for rows in weight.split(37)]
            assert torch.equal(ternary.codes, torch.cat([part.codes for part in parts]))
            assert torch.equal(ternary.scale, torch.cat([part.scale for part in parts]))
        else:
            assert float(ternary.scale) == pytest.approx(exact_mean(weight.numpy()), rel=2**-24)


def test_ternary_weight_conveniences() -> None:
    ternary = quantize_weight(torch.tensor([[1.0, 0.0, -1.0, 0.0]]), "threshold")
    assert ternary.zero_fraction == 0.5
    assert ternary.dequantize(torch.float16).dtype == torch.float16
    moved = ternary.to("meta")
    assert (moved.codes.device.type, moved.scale.device.type, moved.group_size) == ("meta", "meta", None)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.tensor([[1.0, math.nan]]), "NaN or infinity"),
        (torch.tensor([[1.0, -math.inf]]), "NaN or infinity"),
        (torch.ones(3), r"shape \(3\)"),
        (torch.ones(2, 2, 2), r"shape \(2x2x2\)"),
        (torch.ones(0, 4), r"shape \(0x4\)"),
        (torch.ones(4, 0), r"shape \(4x0\)"),
        (torch.ones(2, 2, dtype=torch.int8), "int8"),
        (torch.full((2, 2), 1e39, dtype=torch.float64), "range of float32"),
    ],
)
def test_unusable_weights_are_refused(weight: Tensor, message: str) -> None:
    with pytest.raises(BitnetError, match=message):
        quantize_weight(weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "median"}, "rule 'median'"),
        ({"granularity": "block"}, "granularity 'block' is unknown; choose one of tensor, channel, group"),
        ({"granularity": "group", "group_size": 0}, "group_size = 0"),
        ({"tau": -0.1}, "tau = -0.1"),
        ({"tau": 1.01}, "tau = 1.01"),
        ({"tau": math.nan}, "tau = nan"),
        ({"second_moment": torch.ones(3)}, r"shape \(3,\)"),
        ({"second_moment": torch.tensor([1.0, -1.0])}, "negative or non-finite"),
        ({"second_moment": torch.tensor([1.0, math.nan])}, "negative or non-finite"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BitnetError, match=message):
        quantize_weight(torch.ones(2, 2), **options)


tokens = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=9),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float),
).map(torch.from_numpy)


@examples
@given(x=tokens)
def test_activations_are_absmax_int8_per_token(x: Tensor) -> None:
    codes, scale = quantize_activation(x)
    assert (codes.dtype, scale.dtype) == (torch.int8, torch.float32)
    assert (codes.shape, scale.shape) == (x.shape, (*x.shape[:-1], 1))
    flat_x, flat_codes, flat_scale = (t.reshape(-1, t.shape[-1]).double() for t in (x, codes, scale))
    for token, code, s in zip(flat_x, flat_codes, flat_scale, strict=True):
        peak = float(token.abs().max())
        if peak == 0:
            assert not code.any()
            assert float(s) == 0
            continue
        assert float(code.abs().max()) == 127
        assert float(s) == pytest.approx(peak / 127, rel=2**-24, abs=2**-149)
        assert ((127 * token / peak - code).abs() <= 0.5).all()


def test_activation_ties_round_half_to_even_exactly() -> None:
    x = torch.tensor([[254.0, 1.0, 3.0, -5.0, 127.0]])  # 127 x / 254 = x / 2
    codes, scale = quantize_activation(x)
    assert codes.tolist() == [[127, 0, 2, -2, 64]]
    assert float(scale) == 2.0


def test_activation_of_half_precision_and_no_tokens() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(5)).to(torch.float16)
    for found, expected in zip(quantize_activation(x), quantize_activation(x.float()), strict=True):
        assert torch.equal(found, expected)
    codes, scale = quantize_activation(torch.empty(0, 8))
    assert (codes.shape, scale.shape) == ((0, 8), (0, 1))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_token_stays_visible(bad: float) -> None:
    x = torch.ones(2, 3)
    x[1, 1:] = torch.tensor([1e30, bad])
    codes, scale = quantize_activation(x)
    assert codes.tolist() == [[127] * 3, [0] * 3]
    assert torch.isnan(codes * scale).tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize("x", [torch.tensor(1.0), torch.empty(3, 0), torch.ones(2, 2, dtype=torch.int32)])
def test_unusable_activations_are_refused(x: Tensor) -> None:
    with pytest.raises(BitnetError, match="cannot be quantized"):
        quantize_activation(x)


def test_straight_through_values_and_gradients() -> None:
    generator = torch.Generator().manual_seed(6)
    weight = torch.randn(4, 6, generator=generator, requires_grad=True)
    x = torch.randn(3, 6, generator=generator, requires_grad=True)
    ternary = quantize_weight(weight, "absmean")
    w_hat, x_hat = weight_ste(weight, ternary), activation_ste(x)
    codes, scale = quantize_activation(x)
    assert torch.equal(w_hat, ternary.dequantize())
    assert torch.equal(x_hat, codes * scale)
    seed_w, seed_x = torch.randn(4, 6, generator=generator), torch.randn(3, 6, generator=generator)
    torch.autograd.backward([w_hat, x_hat], [seed_w, seed_x])
    assert weight.grad is not None
    assert x.grad is not None
    assert torch.equal(weight.grad, seed_w)  # also where the code is zero or the weight is clipped
    assert torch.equal(x.grad, seed_x)


def test_straight_through_between_dtypes() -> None:
    weight = torch.randn(2, 3, dtype=torch.bfloat16, requires_grad=True)
    value = weight_ste(
        weight, TernaryWeight(torch.ones(2, 3, dtype=torch.int8), torch.full((1, 1), 0.1)), torch.float32
    )
    assert value.dtype == torch.float32
    assert torch.equal(value, torch.full((2, 3), 0.1))
    value.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.bfloat16
