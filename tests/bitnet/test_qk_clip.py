import pytest
import torch
from torch import nn

from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.qk_clip import Heads, clip_update_, query_key_heads
from tests.bitnet.small_models import ARCHITECTURES, small_model

HEADS = Heads(torch.tensor([[0, 1], [4, 5]]), transposed=False)


def moved(size):
    """Six rows: heads of rows (0, 1) and (4, 5), and rows that are no query or key; the second head moves by `size`."""
    before = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    after = before + 0.1
    after[4:] = before[4:] + size
    return before, after


def test_a_head_that_moves_too_far_moves_less_in_the_same_direction():
    before, after = moved(0.8)
    expected = after.clone()
    clip_update_(after, before, HEADS, limit=0.5)
    assert torch.equal(after[:4], expected[:4])
    torch.testing.assert_close(after[4:], before[4:] + 0.5)


@pytest.mark.parametrize("size", [0.0, 0.49])
def test_smaller_updates_keep_every_bit(size):
    before, after = moved(size)
    expected = after.clone()
    clip_update_(after, before, HEADS, limit=0.5)
    assert torch.equal(after, expected)


def test_the_limit_is_a_root_mean_square_over_the_whole_head():
    before, after = moved(0.0)
    after[4, 0] += 6**0.5  # one of the six weights of the head
    clip_update_(after, before, HEADS, limit=0.5)
    assert float((after - before)[4:].square().mean().sqrt()) == pytest.approx(0.5)


def test_a_transposed_matrix_has_its_heads_in_columns():
    before, after = moved(0.8)
    rows, columns = after.clone(), after.T.contiguous()
    clip_update_(rows, before, HEADS, limit=0.5)
    clip_update_(columns, before.T.contiguous(), HEADS._replace(transposed=True), limit=0.5)
    assert torch.equal(columns.T, rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_heads_are_found_in_every_architecture_plain_and_ternary(architecture):
    """A step along one head's queries alone changes the weights of that head alone."""
    model = small_model(architecture)
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    ternary = CompressedModel.from_model(model, Phase4Config().resolved(1000)).model
    for form in (model, ternary):
        heads = query_key_heads(form)
        assert all(index.shape[1] == size for index, _ in heads.values())
        per_block = config.num_attention_heads + key_heads
        assert sum(len(index) for index, _ in heads.values()) == config.num_hidden_layers * per_block
        assert all(form.get_parameter(name).ndim == 2 for name in heads)


def test_queries_and_keys_of_a_fused_projection_are_told_from_values():
    neox = query_key_heads(small_model("gpt_neox"))
    index, transposed = next(iter(neox.values()))
    size = index.shape[1]
    assert not transposed
    assert index[:3, 0].tolist() == [0, size, 3 * size]  # query, key, (value,) and the next head's query
    index, transposed = next(iter(query_key_heads(small_model("gpt2")).values()))
    assert transposed
    assert index.flatten().tolist() == list(range(2 * small_model("gpt2").config.hidden_size))


def test_a_model_without_attention_has_no_heads():
    assert query_key_heads(nn.Linear(2, 2)) == {}
