import copy
import math

import pytest
import torch
from torch import Tensor, nn

from bitnet.bitlinear import BitLinear
from bitnet.errors import BitnetError
from bitnet.mugrokfast import MuGrokfast, split_parameters
from tests.bitnet.small_models import ARCHITECTURES, small_model


class Net(nn.Module):
    """An embedding, a ternary hidden layer with a bias, a norm and a plain hidden layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Embedding(7, 6, _weight=torch.randn(7, 6, generator=generator))
        self.up = BitLinear(torch.randn(9, 6, generator=generator), torch.zeros(9), activation_bits=None)
        self.norm = nn.LayerNorm(9)
        self.down = nn.Linear(9, 7, bias=False)
        self.down.weight.data = torch.randn(7, 9, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.down(self.norm(self.up(self.table(tokens))))
        return hidden


def train(model: Net, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        tokens, targets = torch.randint(0, 7, (2, 16), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens), targets).backward()
        optimizer.step()


def same_parameters(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def filtered(gradients: list[Tensor], alpha: float, lam: float) -> list[Tensor]:
    """The filter as written down, in float64."""
    mu, out = torch.zeros_like(gradients[0], dtype=torch.float64), []
    for gradient in gradients:
        mu = alpha * mu + (1 - alpha) * gradient.double()
        out.append(gradient.double() + lam * mu)
    return out


def effective_gradients(gradients: list[Tensor], **options: float) -> list[Tensor]:
    """What reaches AdamW: with betas 0 its first moment is the gradient of the step itself."""
    parameter = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = MuGrokfast([], [("p", parameter)], lr=0.0, betas=(0.0, 0.0), **options)
    seen = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        seen.append(optimizer.state_dict()["state"]["p"]["exp_avg"].clone())
    return seen


@pytest.mark.parametrize(("alpha", "lam"), [(0.98, 2.0), (0.5, 1.0), (0.0, 3.0)])
def test_filter_follows_its_definition(alpha: float, lam: float) -> None:
    gradients = [torch.randn(4, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    seen = effective_gradients(gradients, grokfast_alpha=alpha, grokfast_lambda=lam)
    for found, expected in zip(seen, filtered(gradients, alpha, lam), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-7)


def test_gain_of_constant_and_alternating_gradients() -> None:
    steady = effective_gradients([torch.ones(1)] * 900)
    assert float(steady[0]) == pytest.approx(1 + 2 * 0.02)
    assert float(steady[-1]) == pytest.approx(3.0, rel=1e-5)
    alternating = effective_gradients([torch.tensor([(-1.0) ** i]) for i in range(900)])
    assert abs(float(alternating[-1])) == pytest.approx(1 + 2 * 0.02 / 1.98, rel=1e-5)


def test_without_filter_it_is_muon_and_adamw_bit_for_bit() -> None:
    ours, plain = Net(), Net()
    split = split_parameters(plain)
    muon = torch.optim.Muon(
        [p for _, p in split.hidden], lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW([p for _, p in split.rest], lr=0.01, weight_decay=0.1, betas=(0.8, 0.9))
    both = MuGrokfast.for_model(ours, lr=0.01, grokfast_lambda=0.0, momentum=0.9, betas=(0.8, 0.9), weight_decay=0.1)
    train(ours, both, 5)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        tokens, targets = torch.randint(0, 7, (2, 16), generator=generator)
        muon.zero_grad()
        adamw.zero_grad()
        nn.functional.cross_entropy(plain(tokens), targets).backward()
        muon.step()
        adamw.step()
    assert same_parameters(ours, plain)
    assert not same_parameters(ours, Net())


def test_two_steps_by_hand() -> None:
    """Filter, Nesterov momentum, orthogonalization, matched step size, in that order."""
    weight = nn.Parameter(torch.zeros(3, 5))
    optimizer = MuGrokfast([("w", weight)], [], lr=0.1, grokfast_alpha=0.9, grokfast_lambda=2.0, momentum=0.5)
    gradients = [torch.randn(3, 5, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    expected, momentum = torch.zeros(3, 5), torch.zeros(3, 5)
    for gradient, passed in zip(gradients, filtered(gradients, 0.9, 2.0), strict=True):
        weight.grad = gradient.clone()
        optimizer.step()
        assert torch.equal(weight.grad, gradient)
        momentum = 0.5 * momentum + 0.5 * passed.float()
        X = (0.5 * passed.float() + 0.5 * momentum).bfloat16()
        X = X / X.norm()
        for _ in range(5):
            A = X @ X.T
            X = torch.addmm(X, torch.addmm(A, A, A, beta=-4.7750, alpha=2.0315), X, beta=3.4445)
        expected = expected - 0.1 * 0.2 * math.sqrt(5) * X.float()
        # An input that differs in the last bit of float32 may move the iteration by one bit of bfloat16.
        torch.testing.assert_close(weight.detach(), expected, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
def test_updates_do_not_depend_on_the_scale_of_the_gradient(scale: float) -> None:
    updates = []
    for factor in (1.0, scale):
        weight, bias = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(4))
        optimizer = MuGrokfast([("w", weight)], [("b", bias)], lr=0.1)
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            weight.grad = torch.randn(4, 4, generator=generator) * factor
            bias.grad = torch.randn(4, generator=generator) * factor
            optimizer.step()
        updates.append((weight.detach(), bias.detach()))
    torch.testing.assert_close(updates[0][0], updates[1][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(updates[0][1], updates[1][1], rtol=1e-3, atol=0)  # AdamW's epsilon


def test_decay_is_decoupled() -> None:
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = MuGrokfast([("w", weight)], [("b", bias)], lr=0.1, weight_decay=0.5)
    weight.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(bias.detach(), torch.full((2,), 0.95))


def test_schedulers_reach_every_group() -> None:
    model = Net()
    optimizer = MuGrokfast.for_model(model, lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    before = copy.deepcopy(model)
    assert len(optimizer.param_groups) == 2
    train(model, optimizer, 1)
    scheduler.step()
    assert same_parameters(model, before)


def test_parameters_without_gradient_are_left_alone() -> None:
    model = Net()
    optimizer = MuGrokfast.for_model(model, lr=0.1)
    before = model.table.weight.detach().clone()
    model.down.weight.grad = torch.ones_like(model.down.weight)
    optimizer.step()
    assert torch.equal(model.table.weight, before)
    assert list(optimizer.state_dict()["state"]) == ["down.weight"]


def test_a_closure_is_evaluated_once() -> None:
    model = Net()
    optimizer = MuGrokfast.for_model(model, lr=0.1)
    calls = []

    def closure() -> float:
        loss = model(torch.arange(7)).square().mean()
        loss.backward()
        calls.append(loss.item())
        return loss.item()

    assert optimizer.step(closure) == calls[0]
    assert len(calls) == 1
    assert not same_parameters(model, Net())


def test_state_continues_bit_for_bit_and_by_name() -> None:
    straight, first, resumed = Net(), Net(), Net()
    train(straight, MuGrokfast.for_model(straight, lr=0.01), 6)
    saved = MuGrokfast.for_model(first, lr=0.01)
    train(first, saved, 3)
    state = copy.deepcopy(saved.state_dict())
    resumed.load_state_dict(first.state_dict())
    hidden, rest = split_parameters(resumed)
    optimizer = MuGrokfast(reversed(hidden), reversed(rest), lr=0.5)
    optimizer.load_state_dict(state)
    assert {group["lr"] for group in optimizer.param_groups} == {0.01}
    train(resumed, optimizer, 3, start=3)
    assert same_parameters(resumed, straight)
    train(first, saved, 1, start=3)
    reloaded = optimizer.state_dict()["state"]["up.weight"]["grokfast_ema"]
    assert not torch.equal(reloaded, saved.state_dict()["state"]["up.weight"]["grokfast_ema"])


def test_state_of_another_model_is_refused() -> None:
    model, other = Net(), Net()
    other.down = nn.Linear(9, 8, bias=False)
    optimizer = MuGrokfast.for_model(model, lr=0.1)
    train(model, optimizer, 1)
    with pytest.raises(BitnetError, match=r"of 'down\.weight' has shape \(7, 9\), but the parameter has \(8, 9\)"):
        MuGrokfast.for_model(other, lr=0.1).load_state_dict(optimizer.state_dict())
    hidden, rest = split_parameters(other)
    with pytest.raises(BitnetError, match="other parameters"):
        MuGrokfast(hidden[:1], rest, lr=0.1).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_matrices_inside_the_model_go_to_muon(architecture: str) -> None:
    model = small_model(architecture)
    split = split_parameters(model)
    outside = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    assert {p for _, p in split.hidden}.isdisjoint(outside)
    assert outside <= {p for _, p in split.rest}
    assert all(p.ndim == 2 for _, p in split.hidden)
    assert len(split.hidden) >= 2 * 4
    matrices_outside = {name for name, p in split.rest if p.ndim == 2}
    assert all("embed" in name or "wte" in name or "wpe" in name or "lm_head" in name for name in matrices_outside)
    every = [p for _, p in (*split.hidden, *split.rest)]
    assert len({id(p) for p in every}) == len(every) == len(list(model.parameters()))


def test_frozen_parameters_are_not_optimized() -> None:
    model = Net()
    model.down.weight.requires_grad_(False)
    assert "down.weight" not in dict(split_parameters(model).hidden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_is_never_narrower_than_float32(dtype: torch.dtype) -> None:
    parameter = nn.Parameter(torch.zeros(3, dtype=dtype))
    optimizer = MuGrokfast([], [("p", parameter)], lr=0.1)
    parameter.grad = torch.ones(3, dtype=dtype)
    optimizer.step()
    assert optimizer.state_dict()["state"]["p"]["grokfast_ema"].dtype == torch.float32
    assert parameter.grad.dtype == dtype


def test_bad_input_is_refused() -> None:
    parameter = nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(BitnetError, match="no parameter"):
        MuGrokfast([], [], lr=0.1)
    with pytest.raises(BitnetError, match="'b' and 'a' are one parameter"):
        MuGrokfast([("a", parameter)], [("b", parameter)], lr=0.1)
    with pytest.raises(BitnetError, match="called 'a'"):
        MuGrokfast([("a", parameter), ("a", nn.Parameter(torch.zeros(2, 2)))], [], lr=0.1)
    with pytest.raises(BitnetError, match="grokfast_alpha = 1"):
        MuGrokfast([("a", parameter)], [], lr=0.1, grokfast_alpha=1.0)
    with pytest.raises(BitnetError, match="grokfast_lambda = nan"):
        MuGrokfast([("a", parameter)], [], lr=0.1, grokfast_lambda=math.nan)
    with pytest.raises(BitnetError, match="no further parameter group"):
        MuGrokfast([("a", parameter)], [], lr=0.1).add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    with pytest.raises(BitnetError, match="qk_clip = 0"):
        MuGrokfast([("a", parameter)], [], lr=0.1, qk_clip=0.0)


def test_hidden_matrices_may_go_to_adamw_for_comparison() -> None:
    ours, plain = Net(), Net()
    adamw = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1)
    train(ours, MuGrokfast.for_model(ours, muon=False, lr=0.01, grokfast_lambda=0.0, weight_decay=0.1), 3)
    train(plain, adamw, 3)
    assert same_parameters(ours, plain)


def test_weight_decay_is_decoupled_in_both_optimizers() -> None:
    """Of a gradient of 0 nothing is left but the decay."""
    model = Net()
    before = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    MuGrokfast.for_model(model, lr=0.1, weight_decay=0.5).step()
    for parameter, start in zip(model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(parameter, start * 0.95)
