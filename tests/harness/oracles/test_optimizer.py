from dataclasses import replace

import pytest
import torch

from harness.oracles import optimizer as oracle
from harness.subject import OptimizerRecipe

RECIPE = OptimizerRecipe(momentum=0.9, update_scale="match_rms_adamw", betas=(0.9, 0.999), eps=1e-8, qk_clip=None)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def iterated(x):
    """Newton-Schulz as it is usually written."""
    a, b, c = oracle.COEFFICIENTS
    x = x / x.norm()
    for _ in range(5):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    return x


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 3)])
def test_the_decomposition_gives_what_the_iteration_gives(shape):
    torch.testing.assert_close(oracle.orthogonalised(drawn(*shape)), iterated(drawn(*shape)))


def test_the_filter_reaches_its_gain():
    constant = oracle.filtered([torch.ones(2)] * 300, alpha=0.9, lam=2.0)
    assert float(constant[0][0]) == pytest.approx(1 + 2 * 0.1)
    assert float(constant[-1][0]) == pytest.approx(oracle.gain(False, 0.9, 2.0)) == pytest.approx(3.0)
    alternating = oracle.filtered([torch.tensor([(-1.0) ** step]) for step in range(300)], alpha=0.9, lam=2.0)
    assert abs(float(alternating[-1])) == pytest.approx(oracle.gain(True, 0.9, 2.0)) == pytest.approx(1 + 2 * 0.1 / 1.9)


def test_muon_and_adamw_are_those_of_torch_but_for_bfloat16():
    gradients = [drawn(6, 8, seed=seed) for seed in range(3)]
    parameters = [torch.nn.Parameter(torch.zeros(6, 8, dtype=torch.float64)) for _ in range(2)]
    optimizers = [
        torch.optim.Muon(parameters[:1], 1.0, weight_decay=0.0, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(parameters[1:], 1.0, weight_decay=0.0),
    ]
    for gradient in gradients:
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    for updates, parameter, tolerance in (
        (oracle.muon_updates(gradients, RECIPE, 0.98, 0.0), parameters[0], oracle.BFLOAT16_ROUNDING),
        (oracle.adamw_updates(gradients, RECIPE, 0.98, 0.0), parameters[1], 1e-12),
    ):
        assert oracle.relative_distance(-parameter.detach(), sum(updates)) <= tolerance


def test_singular_values_end_in_the_band():
    low, high = oracle.singular_value_band(0.05)
    values = torch.linalg.svdvals(oracle.orthogonalised(torch.diag(torch.linspace(0.1, 1, 6, dtype=torch.float64))))
    assert 0.68 < low <= float(values.min())
    assert float(values.max()) <= high < 1.14
    assert oracle.singular_value_band(1e-4)[0] < 0.1


def test_scales_of_updates():
    original = OptimizerRecipe(0.9, "original", (0.9, 0.999), 1e-8, None)
    assert oracle.update_scale((9, 4), RECIPE) == oracle.update_scale((4, 9), RECIPE) == pytest.approx(0.6)
    assert (oracle.update_scale((16, 4), original), oracle.update_scale((4, 16), original)) == (2.0, 1.0)


def test_only_heads_beyond_the_limit_are_clipped():
    update = torch.cat([drawn(2, 3) * 0.01, drawn(2, 3) * 10])
    assert oracle.clipped_per_head(update, 2, None) is update
    clipped = oracle.clipped_per_head(update, 2, 0.5)
    assert torch.equal(clipped[:2], update[:2])
    assert float(clipped[2:].square().mean().sqrt()) == pytest.approx(0.5)


def test_a_tensor_with_nan_is_at_no_distance():
    assert not oracle.relative_distance(torch.tensor([float("nan")]), torch.ones(1, dtype=torch.float64)) <= 1e9


def test_the_stages_follow_the_declared_order():
    gradients = [drawn(4, 6, seed=seed) for seed in range(3)]
    usual = oracle.muon_updates(gradients, RECIPE, 0.5, 2.0)
    linear = replace(RECIPE, order=("momentum", "filter", "orthogonalise"))
    last = replace(RECIPE, order=("momentum", "orthogonalise", "filter"))
    for update, swapped in zip(usual, oracle.muon_updates(gradients, linear, 0.5, 2.0), strict=True):
        torch.testing.assert_close(update, swapped)  # both are linear and shift-invariant: they commute
    scale = oracle.update_scale((4, 6), RECIPE)
    first = oracle.muon_updates(gradients, last, 0.5, 2.0)[0]
    torch.testing.assert_close(first, 2.0 * scale * oracle.orthogonalised(gradients[0]))  # 1 + lambda (1 - alpha)
