import numpy as np
import pytest
import torch
from torch import nn

from harness.oracles import moments as oracle
from suites.small_models import random_llama


class Reader(nn.Module):
    """Tokens to one-hot rows, a layer that doubles them, and one that takes what that gives."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False)
        self.first.weight = nn.Parameter(2 * torch.eye(3))

    def forward(self, tokens):
        return self.second(self.first(nn.functional.one_hot(tokens, 3).float()))


def test_windows_are_all_runs_of_tokens_in_order():
    assert oracle.windows_of([1, 2, 3, 4], 3).tolist() == [[1, 2, 3], [2, 3, 4]]
    assert oracle.windows_of([1, 2, 3], 3).tolist() == [[1, 2, 3]]


def test_moments_are_mean_squares_of_each_windows_inputs():
    found = oracle.input_moments(Reader(), ["first", "second"], torch.tensor([[0, 0, 0, 1], [2, 2, 1, 1]]))
    np.testing.assert_array_equal(found["first"], [[0.75, 0.25, 0], [0, 0.5, 0.5]])
    np.testing.assert_array_equal(found["second"], [[3, 1, 0], [0, 2, 2]])
    assert found["first"].dtype == np.float64


def test_inputs_are_those_of_one_window_and_no_hook_stays():
    model = Reader()
    inputs = oracle.inputs_of(model, ["second"], torch.tensor([0, 2]))
    assert inputs["second"].tolist() == [[2, 0, 0], [0, 0, 2]]
    assert not model.second._forward_pre_hooks


def test_hooks_go_also_where_the_model_fails():
    model = Reader()
    with pytest.raises(RuntimeError):
        oracle.inputs_of(model, ["second"], torch.tensor([0, 7]))
    assert not model.second._forward_pre_hooks


def test_a_mean_over_windows_is_recognised_and_its_windows_counted():
    windows = oracle.windows_of(torch.randint(0, 257, (60,), generator=torch.Generator().manual_seed(0)).tolist(), 8)
    names = ["model.layers.0.self_attn.o_proj", "model.layers.1.mlp.down_proj"]
    by_window = oracle.input_moments(random_llama(), names, windows)
    found = oracle.mixture(by_window, {name: rows[[3, 20, 20, 41]].mean(axis=0) for name, rows in by_window.items()})
    assert found.error < 1e-9
    np.testing.assert_allclose(found.weights[[3, 20, 41]], [0.25, 0.5, 0.25], atol=1e-6)
    assert found.windows == pytest.approx(1 / (0.25**2 + 0.5**2 + 0.25**2), rel=1e-4)


def test_what_is_no_mean_over_windows_leaves_an_error_or_a_wrong_sum():
    by_window = {"a": np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])}
    apart = oracle.mixture(by_window, {"a": np.array([1.0, 1.0, 2.0])})
    assert apart.error > 0.1
    doubled = oracle.mixture(by_window, {"a": np.array([1.0, 1.0, 4.0])})
    assert doubled.error < 1e-12
    assert doubled.weights.sum() == pytest.approx(2)


def test_layers_that_disagree_about_the_windows_are_found_out():
    by_window = {"a": np.array([[1.0, 0.0], [0.0, 1.0]]), "b": np.array([[2.0, 1.0], [1.0, 2.0]])}
    assert oracle.mixture(by_window, {"a": np.array([1.0, 0.0]), "b": np.array([1.0, 2.0])}).error > 0.1


def test_a_feature_that_is_always_zero_is_no_division_by_zero():
    by_window = {"a": np.array([[1.0, 0.0], [3.0, 0.0]])}
    assert oracle.mixture(by_window, {"a": np.array([2.0, 0.0])}).error == pytest.approx(0, abs=1e-12)
