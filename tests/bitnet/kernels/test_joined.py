import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.errors import BitnetError
from bitnet.kernels import PreparedWeight, PreparedWeights, backends
from bitnet.quantizer import TernaryWeight

compiled = pytest.mark.skipif("portable" not in backends(), reason="the native kernels were not built")
every_backend = pytest.mark.parametrize("backend", backends())


def weights(shapes, width, seed=0, **options):
    """A weight of each (rows, planes, group size, with bias)."""
    rng = np.random.default_rng(seed)
    made = []
    for rows, planes, group_size, biased in shapes:
        groups = 1 if group_size is None else -(-width // group_size)
        parts = [
            TernaryWeight(
                torch.from_numpy(rng.integers(-1, 2, (rows, width), dtype=np.int8)),
                torch.from_numpy(rng.random((rows, groups), dtype=np.float32)),
                group_size,
            )
            for _ in range(planes)
        ]
        bias = torch.from_numpy(rng.random(rows, dtype=np.float32)) if biased else None
        made.append(PreparedWeight.from_ternary(parts, bias, **options))
    return made


SHAPES = st.lists(
    st.tuples(st.integers(1, 130), st.integers(1, 3), st.sampled_from([None, 1, 6, 20, 64]), st.booleans()),
    min_size=1,
    max_size=5,
)


@every_backend
@settings(max_examples=40, deadline=None)
@given(
    shapes=SHAPES,
    width=st.integers(1, 200),
    tokens=st.integers(0, 14),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_products_in_one_call_are_those_of_each_bit_for_bit(backend, shapes, width, tokens, dtype, seed):
    made = weights(shapes, width, seed, backend=backend)
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    joined = PreparedWeights(made)
    found, outs = joined(x), [torch.full((tokens, weight.out_features), torch.nan) for weight in made]
    joined.into(x, outs)
    for result, out, weight in zip(found, outs, made, strict=True):
        assert result.dtype == dtype
        assert torch.equal(result, weight(x))
        assert torch.equal(out, weight(x.float()))


ONE, TWO = (3, 1, None, True), (5, 2, 16, False)


@every_backend
@pytest.mark.parametrize("view", ["as it is", "negated", "strided", "more axes", "one token"])
def test_inputs_may_lie_in_any_way(backend, view):
    x = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    given = {
        "as it is": x,
        "negated": torch._neg_view(-x),
        "strided": torch.stack([x, x], -1)[..., 0],
        "more axes": x.view(2, 2, 20),
        "one token": x[0],
    }[view]
    made = weights([ONE, TWO], 20, backend=backend)
    joined = PreparedWeights(made)
    for result, weight in zip(joined(given), made, strict=True):
        assert torch.equal(result, weight(given))
    bad = x.clone()
    bad[1, 3] = torch.nan
    assert [bool(result[1].isnan().all() and result[0].isfinite().all()) for result in joined(bad)] == [True, True]


@every_backend
@pytest.mark.parametrize(
    ("outs", "complaint"),
    [
        ([torch.zeros(2, 3)], "2 products cannot be written into 1 tensors"),
        ([torch.zeros(2, 3), torch.zeros(2, 5), torch.zeros(2, 5)], "2 products cannot be written into 3 tensors"),
        ([torch.zeros(2, 3), torch.zeros(2, 3)], r"of shape \(2, 5\) cannot be written into"),
        ([torch.zeros(2, 3), torch.zeros(5, 2).T], r"of shape \(2, 5\) cannot be written into"),
        ([torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 5)], r"of shape \(2, 3\) cannot be written into"),
        ([torch.zeros(2, 3), torch.zeros(2, 5, dtype=torch.float16)], r"of shape \(2, 5\) cannot be written into"),
    ],
)
def test_results_that_do_not_fit_are_refused_before_anything_is_written(backend, outs, complaint):
    joined = PreparedWeights(weights([ONE, TWO], 20, backend=backend))
    with pytest.raises(BitnetError, match=complaint):
        joined.into(torch.ones(2, 20), outs)
    assert not any(out.any() for out in outs)


@every_backend
def test_inputs_are_refused_as_by_one_weight(backend):
    joined = PreparedWeights(weights([ONE, TWO], 20, backend=backend))
    for x in (torch.ones(2, 19), torch.ones(2, 20, dtype=torch.int32), torch.ones(2, 20, device="meta")):
        with pytest.raises(BitnetError, match="20 features"):
            joined(x)
        with pytest.raises(BitnetError, match="20 features"):
            joined.into(x, [torch.empty(2, 3), torch.empty(2, 5)])
    with pytest.raises(BitnetError, match="no gradient"):
        joined(torch.ones(2, 20, requires_grad=True))


def test_weights_that_cannot_be_joined_are_refused():
    with pytest.raises(BitnetError, match="at least one"):
        PreparedWeights([])
    with pytest.raises(BitnetError, match=r"20 on .*, 24 on .*; prepare them alike"):
        PreparedWeights([*weights([ONE], 20), *weights([ONE], 24)])


@compiled
def test_weights_of_two_backends_are_refused():
    with pytest.raises(BitnetError, match="20 on portable, 20 on torch"):
        PreparedWeights([*weights([ONE], 20, backend="portable"), *weights([ONE], 20, backend="torch")])


@compiled
def test_a_torch_that_has_no_exchange_table_does_the_same(monkeypatch):
    joined, x = PreparedWeights(weights([ONE, TWO], 20)), torch.randn(2, 20)
    expected = joined(x)
    monkeypatch.setattr(joined, "_try", lambda *words: False)
    assert all(map(torch.equal, joined(x), expected))


@compiled
def test_the_compiled_call_refuses_what_does_not_fit():
    from bitnet.kernels._native import try_forward_all

    first, second = (weight.native for weight in weights([ONE, TWO], 20))
    x, outs = torch.ones(2, 20), (torch.zeros(2, 3), torch.zeros(2, 5))
    assert not try_forward_all([], x, (), 1)
    assert not try_forward_all([first], x, outs, 1)
    assert not try_forward_all([first, second], x, outs[::-1], 1)
    assert not try_forward_all([first, second], torch.ones(20, 2).T, outs, 1)
    assert not try_forward_all([first, None], x, outs, 1)
    assert not any(out.any() for out in outs)
    assert try_forward_all([first, second], x, outs, 1)


def test_joined_weights_take_the_most_threads_of_theirs_and_give_the_same():
    shapes = [(1024, 1, None, False), (1500, 1, None, True)]
    alone, shared = weights(shapes, 1024), weights(shapes, 1024, threads=2)
    joined, x = PreparedWeights([alone[0], shared[1]]), torch.randn(24, 1024)
    assert joined.threads == 2
    assert all(map(torch.equal, joined(x), (weight(x) for weight in alone)))


def test_several_python_threads_may_call_at_once():
    joined = PreparedWeights(weights([ONE, TWO, (70, 1, None, False)], 128))
    inputs = [torch.randn(3, 128) for _ in range(6)]
    expected, found = [joined(x) for x in inputs], [None] * 6

    def work(i):
        for _ in range(40):
            found[i] = joined(inputs[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for results, right in zip(found, expected, strict=True):
        assert all(map(torch.equal, results, right))
