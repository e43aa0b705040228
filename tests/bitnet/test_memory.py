import torch

from bitnet.memory import blockwise, give_back
from tests.bitnet.small_models import small_model

TOKENS = torch.arange(2, 42).reshape(2, 20)


def gradients(model):
    model.zero_grad()
    model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_gradients_are_the_same_when_blocks_run_again():
    model, runs = small_model("llama"), []
    expected = gradients(model)
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    with blockwise(model):
        found = gradients(model)
    assert len(runs) == 2
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    gradients(model)
    assert len(runs) == 3  # once again without it


def test_freed_memory_goes_back_and_nothing_else_does():
    kept = torch.ones(1 << 18)
    for _ in range(3):
        give_back()
    assert torch.equal(kept, torch.ones(1 << 18))
