"""The reference for weights, on matrices small enough to be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from harness.oracles import quantization as oracle
from harness.subject import WeightVariant

WEIGHT = np.array([[1.0, -3.0, 0.0, 4.0, 2.0], [0.5, -0.5, 1.0, 0.0, 0.0]])


def variant(rule="threshold", granularity="channel", group_size=None, tau=0.5, tie_rule="strictly_greater"):
    return WeightVariant(rule, granularity, group_size, tau, tie_rule, "absmean", second_moment=False)


TENSOR, CHANNEL, GROUP = variant(granularity="tensor"), variant(), variant(granularity="group", group_size=2)


# --------------------------------------------------------------------------- blocks and scales


def test_the_scale_grid_has_a_place_for_each_block():
    assert [oracle.grid_shape((2, 5), each) for each in (TENSOR, CHANNEL, GROUP)] == [(1, 1), (2, 1), (2, 3)]


def test_blocks_cover_every_weight_once_and_the_last_group_is_what_is_left():
    for each in (TENSOR, CHANNEL, GROUP):
        seen = np.zeros((2, 5), dtype=int)
        for _, covered in oracle.blocks((2, 5), each):
            seen[covered] += 1
        assert (seen == 1).all()
    assert [seen[covered].size for _, covered in oracle.blocks((1, 5), GROUP)] == [2, 2, 1]


def test_groups_without_a_size_are_a_mistake_in_the_declaration():
    with pytest.raises(ValueError, match="declares no group_size"):
        oracle.grid_shape((2, 5), variant(granularity="group"))


def test_mean_absolute_of_tensor_rows_and_groups():
    np.testing.assert_array_equal(oracle.mean_absolute(WEIGHT, TENSOR), [[1.2]])
    np.testing.assert_array_equal(oracle.mean_absolute(WEIGHT, CHANNEL), [[2.0], [0.4]])
    np.testing.assert_array_equal(oracle.mean_absolute(WEIGHT, GROUP), [[2.0, 2.0, 2.0], [0.5, 0.5, 0.0]])


def test_spreading_a_grid_repeats_it_over_its_blocks():
    grid = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    expected = [[1, 1, 2, 2, 3], [4, 4, 5, 5, 6]]
    np.testing.assert_array_equal(oracle.spread(grid, (2, 5), GROUP), expected)


def test_least_squares_scale_is_the_weighted_mean_of_the_coded_magnitudes():
    codes = np.array([[0, -1, 0, 1, 0], [0, 0, 0, 0, 0]], dtype=np.int8)
    plain = oracle.least_squares_scale(WEIGHT, codes, CHANNEL, np.ones(5))
    weighted = oracle.least_squares_scale(WEIGHT, codes, CHANNEL, np.array([1.0, 3.0, 1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(plain, [[3.5], [0.0]])
    np.testing.assert_array_equal(weighted, [[13 / 4], [0.0]])  # (3 * 3 + 1 * 4) / (3 + 1)


def test_least_squares_scale_of_a_block_without_importance_is_zero():
    codes = np.ones((2, 5), dtype=np.int8)
    np.testing.assert_array_equal(oracle.least_squares_scale(WEIGHT, codes, CHANNEL, np.zeros(5)), [[0.0], [0.0]])


def test_weighted_error_adds_up_per_block():
    error = oracle.weighted_error(WEIGHT, np.zeros((2, 5)), CHANNEL, np.array([1.0, 2.0, 1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(error, [[1 + 18 + 16], [0.25 + 0.5 + 1]])


# --------------------------------------------------------------------------- codes


def test_threshold_codes_are_signs_above_tau_times_the_mean():
    reference = oracle.reference_codes(WEIGHT, CHANNEL, resolution=1e-7)  # borders 1.0 and 0.2
    np.testing.assert_array_equal(reference.codes, [[0, -1, 0, 1, 1], [1, -1, 1, 0, 0]])
    np.testing.assert_array_equal(reference.decided, [[False, True, True, True, True], [True] * 5])


def test_absmean_codes_have_their_border_at_half_the_mean_whatever_tau():
    reference = oracle.reference_codes(WEIGHT, variant("absmean", "tensor", tau=None), resolution=1e-7)  # border 0.6
    np.testing.assert_array_equal(reference.codes, [[1, -1, 0, 1, 1], [0, 0, 1, 0, 0]])
    assert reference.decided.all()


def test_decisions_within_rounding_of_the_border_are_open():
    weight = np.array([[1.0 + 1e-9, 1.0 - 1e-9, 1.0, 5.0]])  # mean 2, border 1
    assert oracle.reference_codes(weight, CHANNEL, resolution=1e-7).decided.tolist() == [[False, False, False, True]]
    assert oracle.reference_codes(weight, CHANNEL, resolution=1e-11).decided.tolist() == [[True, True, False, True]]


def test_a_zero_block_is_decided_to_be_zero():
    reference = oracle.reference_codes(np.zeros((1, 3)), CHANNEL, resolution=1e-7)
    assert reference.decided.all()
    assert not reference.codes.any()


def test_the_searched_rule_has_no_codes_fixed_beforehand():
    with pytest.raises(ValueError, match="held to its objective"):
        oracle.reference_codes(WEIGHT, variant("optimal"), resolution=1e-7)


def test_a_threshold_rule_without_tau_is_a_mistake_in_the_declaration():
    with pytest.raises(ValueError, match="declares no tau"):
        oracle.reference_codes(WEIGHT, variant(tau=None), resolution=1e-7)


@pytest.mark.parametrize(
    ("tie_rule", "codes"),
    [
        ("strictly_greater", (0, 0)),
        ("half_even", (0, 0)),
        ("half_up", (1, 0)),
        ("at_least", (1, -1)),
        ("away_from_zero", (1, -1)),
    ],
)
def test_codes_at_a_tie(tie_rule, codes):
    assert (oracle.code_at_tie(1, tie_rule), oracle.code_at_tie(-1, tie_rule)) == codes


def test_an_unknown_tie_rule_is_refused():
    with pytest.raises(ValueError, match="unknown tie rule 'odd'"):
        oracle.code_at_tie(1, "odd")


# --------------------------------------------------------------------------- search


def test_weights_below_the_floor_that_carry_a_code_are_counted():
    codes = np.array([[1, -1, 0, 1, 1], [1, -1, 1, 0, 0]], dtype=np.int8)
    assert oracle.floor_violations(WEIGHT, codes, variant(tau=0.6), resolution=1e-7) == 1  # 1.0 < 1.2 in the first row
    assert oracle.floor_violations(WEIGHT, codes, CHANNEL, resolution=1e-7) == 0  # exactly at the floor


@pytest.mark.parametrize(("zeros", "allowed"), [(0, False), (1, True), (9, True), (10, False)])
def test_of_twenty_weights_one_to_nine_may_be_zero(zeros, allowed):
    assert oracle.zeros_allowed(20, zeros) is allowed


def test_the_best_threshold_of_a_block_is_found_by_trying_all():
    weight = np.array([4.0, -3.0, 1.0, 3.0])
    # One zero of four is the only count inside the band: keep 4, 3, 3 with scale 10/3.
    best = oracle.best_threshold(weight, np.ones(4), tau=0.0, resolution=1e-7)
    assert best.feasible
    assert best.error == pytest.approx((4 - 10 / 3) ** 2 + 2 * (3 - 10 / 3) ** 2 + 1)


def test_importance_decides_what_the_best_threshold_keeps():
    weight, importance = np.array([5.0, 3.0, 2.9, 1.0, 0.9]), np.array([1.0, 1.0, 1.0, 100.0, 1.0])
    best = oracle.best_threshold(weight, importance, tau=0.0, resolution=1e-7)
    kept = np.array([1.0, 1, 1, 1, 0])
    scale = (importance * weight * kept).sum() / (importance * kept).sum()
    assert best.error == pytest.approx(np.sum(importance * (weight - scale * kept) ** 2))


@pytest.mark.parametrize("weight", [[1.0], [1.0, 1.0, 1.0], [0.0, 0.0]], ids=["single", "equal", "zero"])
def test_a_block_in_which_no_threshold_is_allowed_is_not_judged(weight):
    best = oracle.best_threshold(np.array(weight), np.ones(len(weight)), tau=0.05, resolution=1e-7)
    assert not best.feasible
    assert np.isnan(best.error)


def test_a_block_without_importance_has_no_error():
    best = oracle.best_threshold(np.array([4.0, 3.0, 1.0]), np.zeros(3), tau=0.0, resolution=1e-7)
    assert (best.feasible, best.error) == (True, 0.0)


@pytest.mark.parametrize(
    ("codes", "structured"),
    [
        ([1, -1, 0, 0], True),
        ([1, -1, -1, 0], True),
        ([1, -1, -1, 1], True),
        ([0, 0, 0, 0], True),
        ([1, 0, -1, 0], False),  # a smaller magnitude is kept than one that is zeroed
        ([1, 1, 0, 0], False),  # a wrong sign
        ([1, 1, -1, 1], False),
    ],
)
def test_whether_one_threshold_explains_the_codes(codes, structured):
    weight = np.array([4.0, -3.0, -2.0, 1.0])
    assert oracle.threshold_structured(weight, np.array(codes, dtype=np.int8)) is structured


def test_equal_magnitudes_cannot_be_told_apart_by_a_threshold():
    assert not oracle.threshold_structured(np.array([1.0, 1.0]), np.array([1, 0], dtype=np.int8))


def test_rounding_of_a_mean_grows_with_the_logarithm_of_its_length():
    assert oracle.mean_resolution(1, 0.5) == 1.0
    assert oracle.mean_resolution(1024, 0.5) == 6.0


# --------------------------------------------------------------------------- absmax, ranges


def test_the_absmax_rule_rounds_by_the_largest_weight():
    absmax = replace(variant(rule="absmax", tau=None), scale_rule="absmax")
    assert oracle.max_absolute(WEIGHT, absmax).tolist() == [[4.0], [1.0]]
    reference = oracle.reference_codes(WEIGHT, absmax, 1e-7)
    assert reference.codes.tolist() == [[0, -1, 0, 1, 0], [0, 0, 1, 0, 0]]
    assert reference.decided.tolist() == [[True, True, True, True, False], [False, False, True, True, True]]


def test_powers_of_two_are_limited_by_the_declared_range_of_scales():
    ranged = replace(CHANNEL, scale_range=(0.25, 16.0))  # mean|W| is 2.0 and 0.4
    assert oracle.exponents_in_range(WEIGHT, ranged) == (0, 3)
    assert oracle.exponents_in_range(WEIGHT, CHANNEL) == (-np.inf, np.inf)
    assert oracle.exponents_in_range(np.zeros((2, 2)), ranged) == (-np.inf, np.inf)
