import numpy as np

from harness.oracles import activation as oracle


def test_codes_and_scale_of_a_token_worked_out_by_hand():
    reference = oracle.quantize(np.array([[2.54, -1.27, 0.01, 0.0]]), 127, resolution=1e-7)
    np.testing.assert_allclose(reference.scale, [[0.02]])
    np.testing.assert_array_equal(reference.codes, [[127, -64, 0, 0]])  # -63.5 is a tie, rounded to even
    np.testing.assert_array_equal(reference.decided, [[True, False, False, True]])  # 0.01 / 0.02 is one as well


def test_each_token_has_its_own_scale():
    reference = oracle.quantize(np.array([[[1.0, 0.5]], [[10.0, -10.0]]]), 100, resolution=1e-7)
    np.testing.assert_allclose(reference.scale, [[[0.01]], [[0.1]]])
    np.testing.assert_array_equal(reference.codes, [[[100, 50]], [[100, -100]]])


def test_a_zero_token_has_scale_zero_and_decided_codes():
    reference = oracle.quantize(np.zeros((1, 3)), 127, resolution=1e-7)
    assert not reference.scale.any()
    assert not reference.codes.any()
    assert reference.decided.all()


def test_rounding_is_granted_in_proportion_to_the_code():
    x = np.array([[100.0, 50.5 + 1e-5, 0.5 + 1e-5]])  # with limit 100 the codes are the values themselves
    decided = oracle.quantize(x, 100, resolution=1e-6).decided
    np.testing.assert_array_equal(decided, [[True, False, True]])  # 1e-6 of 50.5 is more than 1e-5, of 0.5 less


def test_the_bound_is_half_a_step():
    np.testing.assert_allclose(oracle.error_bound(np.array([[2.54, -1.0], [0.0, 0.0]]), 127), [[0.01], [0.0]])


def test_a_floor_takes_the_place_of_a_smaller_magnitude():
    reference = oracle.quantize(np.array([[0.5, -0.25], [0.0, 0.0]]), 100, resolution=1e-7, floor=1.0)
    np.testing.assert_array_equal(reference.codes, [[50, -25], [0, 0]])
    np.testing.assert_array_equal(reference.scale, [[0.01], [0.01]])


def test_a_code_that_is_clipped_costs_a_whole_step():
    np.testing.assert_allclose(oracle.error_bound(np.array([[1.28]]), 128, clipped=1), [[0.01]])
