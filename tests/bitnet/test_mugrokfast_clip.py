"""MuGrokfast on query and key projections, where nothing is said, and with states in another order."""

import copy

import pytest
import torch
from torch import nn

from bitnet.errors import BitnetError
from bitnet.mugrokfast import MuGrokfast
from bitnet.qk_clip import Heads, query_key_heads
from tests.bitnet.small_models import small_model

HEADS = Heads(torch.tensor([[0, 1], [2, 3]]), transposed=False)
LR = 0.1


def stepped(clip: float | None, decay: float = 0.5, lr: float = LR) -> dict[str, torch.Tensor]:
    """Weights of ones after a step: a query and a key projection, one without a gradient, and a plain matrix."""
    named = [(name, nn.Parameter(torch.ones(4, 3))) for name in ("query", "key", "still", "plain")]
    options = {"heads": dict.fromkeys(("query", "key", "still"), HEADS), "qk_clip": clip}
    optimizer = MuGrokfast(named, [("bias", nn.Parameter(torch.ones(3)))], lr=1.0, weight_decay=decay, **options)
    for group in optimizer.param_groups:
        group["lr"] = lr  # as a scheduler does
    for seed, (name, parameter) in enumerate(named):
        if name != "still":
            parameter.grad = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.step()
    return {name: parameter.detach() for name, parameter in named}


def head_updates(weight: torch.Tensor, decay: float = 0.5, lr: float = LR) -> torch.Tensor:
    """Root mean square of what a step has moved each head by, but for the decay."""
    return (weight - (1 - lr * decay)).reshape(2, 6).square().mean(dim=1).sqrt()


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("lr", [0.1, 0.3])
def test_every_head_moves_by_the_limit_at_most_in_units_of_the_learning_rate(decay: float, lr: float) -> None:
    clipped, free = stepped(0.05, decay, lr), stepped(None, decay, lr)
    for name in ("query", "key"):
        assert bool((head_updates(free[name], decay, lr) > 0.06 * lr).all())
        torch.testing.assert_close(head_updates(clipped[name], decay, lr), torch.full((2,), 0.05 * lr))
    assert torch.equal(clipped["plain"], free["plain"])


def test_a_projection_without_a_gradient_is_neither_moved_nor_clipped() -> None:
    assert torch.equal(stepped(0.001)["still"], torch.ones(4, 3))


def test_a_limit_that_no_head_reaches_changes_no_bit() -> None:
    clipped, free = stepped(100.0), stepped(None)
    assert all(torch.equal(clipped[name], free[name]) for name in free)


def test_the_optimizer_clips_queries_and_keys_and_leaves_the_rest() -> None:
    limit, lr, decay = 0.05, 0.1, 0.5
    model = small_model("llama")
    plain, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    for audited, clip in ((model, limit), (plain, None)):
        optimizer = MuGrokfast.for_model(audited, lr=lr, weight_decay=decay, qk_clip=clip)
        for seed, parameter in enumerate(audited.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        optimizer.step()
    heads = query_key_heads(model)
    for name, parameter in model.named_parameters():
        other = plain.get_parameter(name)
        if name not in heads:
            assert torch.equal(parameter, other), name
            continue
        start = before[name] * (1 - lr * decay)
        update, unclipped = ((p - start)[heads[name].rows].flatten(1) for p in (parameter.detach(), other.detach()))
        torch.testing.assert_close(update.square().mean(dim=1).sqrt(), torch.full((len(update),), lr * limit))
        cosine = nn.functional.cosine_similarity(update, unclipped)
        torch.testing.assert_close(cosine, torch.ones(len(update)))


def test_what_is_not_said_is_as_documented() -> None:
    optimizer = MuGrokfast([("w", nn.Parameter(torch.ones(2, 2)))], [("b", nn.Parameter(torch.ones(2)))], lr=0.1)
    muon, adamw = optimizer.param_groups
    assert (muon["momentum"], muon["nesterov"], muon["weight_decay"], muon["lr"]) == (0.95, True, 0.0, 0.1)
    assert (adamw["betas"], adamw["weight_decay"], adamw["lr"]) == ((0.9, 0.999), 0.0, 0.1)
    assert (optimizer.grokfast_alpha, optimizer.grokfast_lambda, optimizer.qk_clip) == (0.98, 2.0, 0.2)


def test_without_a_closure_there_is_no_loss() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    assert MuGrokfast([], [("p", parameter)], lr=0.1).step() is None


def test_a_filter_that_adds_nothing_keeps_no_average() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    optimizer = MuGrokfast([], [("p", parameter)], lr=0.1, grokfast_lambda=0.0)
    optimizer.step()
    assert "grokfast_ema" not in optimizer.state_dict()["state"]["p"]


def two(*names: str) -> MuGrokfast:
    """An optimizer over parameters of one shape, each with a gradient of its own, after a step."""
    named = [(name, nn.Parameter(torch.zeros(3))) for name in names]
    for name, parameter in named:
        parameter.grad = torch.full((3,), float(ord(name)))
    optimizer = MuGrokfast([], named, lr=0.1)
    optimizer.step()
    return optimizer


def test_a_state_loaded_in_another_order_keeps_its_names() -> None:
    saved, other = copy.deepcopy(two("a", "b").state_dict()), two("b", "a")
    other.load_state_dict(saved)
    found = other.state_dict()["state"]
    assert found.keys() == saved["state"].keys()
    for name, values in saved["state"].items():
        assert all(torch.equal(found[name][key], value) for key, value in values.items()), name


def test_names_that_differ_are_refused_in_the_groups_and_in_the_state() -> None:
    saved = two("a", "b").state_dict()
    for state in (two("a", "c").state_dict() | {"state": {}}, saved | {"state": {"c": saved["state"]["a"]}}):
        with pytest.raises(BitnetError, match="belongs to other parameters"):
            two("a", "b").load_state_dict(state)
