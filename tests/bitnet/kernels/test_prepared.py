import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch._subclasses import FakeTensorMode

from bitnet.bitlinear import TernaryLinear
from bitnet.errors import BitnetError
from bitnet.kernels import PackedPlane, PreparedWeight, backends
from bitnet.packing import pack
from bitnet.quantizer import TernaryWeight, quantize_activation

compiled = pytest.mark.skipif("portable" not in backends(), reason="the native kernels were not built")

every_backend = pytest.mark.parametrize("backend", backends())


@st.composite
def problems(draw):
    """Planes of one shape, and int8 activations for them."""
    rows, width, tokens = draw(st.integers(1, 130)), draw(st.integers(1, 200)), draw(st.integers(1, 15))
    granularity = draw(st.sampled_from(["tensor", "channel", 1, 6, 20, 64]))
    group_size = granularity if isinstance(granularity, int) else None
    groups = 1 if group_size is None else -(-width // group_size)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    planes = []
    for _ in range(draw(st.integers(1, 3))):
        codes = rng.integers(-1, 2, (rows, width), dtype=np.int8)
        scale = rng.random((1 if granularity == "tensor" else rows, groups), dtype=np.float32)
        planes.append(TernaryWeight(torch.from_numpy(codes), torch.from_numpy(scale), group_size))
    extreme = draw(st.sampled_from([None, 127, -127]))
    x = rng.integers(-127, 128, (tokens, width), dtype=np.int8) if extreme is None else extreme
    return planes, torch.from_numpy(np.broadcast_to(np.int8(x), (tokens, width)).copy())


def exact_sums(planes, x):
    """The sums in int64, by numpy."""
    x, result = x.numpy().astype(np.int64), []
    for plane in planes:
        codes, size = plane.codes.numpy().astype(np.int64), plane.group_size or x.shape[1]
        starts = range(0, x.shape[1], size)
        result.append(np.stack([x[:, s : s + size] @ codes[:, s : s + size].T for s in starts], axis=1))
    return np.stack(result, axis=1)


@every_backend
@settings(max_examples=40, deadline=None)
@given(problem=problems(), codec=st.sampled_from(["int8", "2bit", "base3"]), threads=st.sampled_from([1, 3]))
def test_integer_sums_are_exact(backend, problem, codec, threads):
    planes, x = problem
    packed = [PackedPlane(pack(plane.codes, codec), codec, plane.scale) for plane in planes]
    width, group_size = planes[0].codes.shape[1], planes[0].group_size
    weight = PreparedWeight(packed, width, group_size, backend=backend, threads=threads)
    np.testing.assert_array_equal(weight.accumulate(x).numpy(), exact_sums(planes, x))


@every_backend
@pytest.mark.parametrize("tokens", [1, 2, 13])
@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_overflows_at_the_largest_width(backend, tokens, sign):
    width = 1 << 20
    codes = torch.full((2, width), sign, dtype=torch.int8)
    weight = PreparedWeight.from_ternary([TernaryWeight(codes, torch.ones(2, 1))], backend=backend)
    sums = weight.accumulate(torch.full((tokens, width), 127, dtype=torch.int8))
    assert sums.unique().tolist() == [sign * 127 * width]


@settings(max_examples=40, deadline=None)
@given(problem=problems(), dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), bias=st.booleans())
def test_all_backends_return_the_same_bits(problem, dtype, bias):
    planes, x = problem
    values = (x.float() * 0.37 + 0.11).to(dtype)
    offset = torch.linspace(-3, 3, len(planes[0].codes)) if bias else None
    results = [PreparedWeight.from_ternary(planes, offset, backend=name)(values) for name in backends()]
    assert results[0].dtype == dtype
    for result in results[1:]:
        assert torch.equal(result, results[0])


@pytest.mark.parametrize("rows", [2047, 2048, 2111, 2112, 2180])
@pytest.mark.parametrize("width", [3, 4, 37])
@pytest.mark.parametrize("bias", [False, True])
def test_all_backends_return_the_same_bits_for_one_token_and_many_rows(rows, width, bias):
    """Rows of which some kernels read two parts in turn."""
    generator = torch.Generator().manual_seed(rows + width)
    codes = torch.randint(-1, 2, (rows, width), dtype=torch.int8, generator=generator)
    planes, x = [TernaryWeight(codes, torch.rand(rows, 1, generator=generator))], torch.randn(1, width)
    offset = torch.randn(rows, generator=generator) if bias else None
    results = [PreparedWeight.from_ternary(planes, offset, backend=name)(x) for name in backends()]
    for result in results[1:]:
        assert torch.equal(result, results[0])


@every_backend
@settings(max_examples=40, deadline=None)
@given(problem=problems())
def test_the_error_is_what_the_documentation_allows(backend, problem):
    planes, x = problem
    values, offset = x.float() * 0.37 + 0.11, torch.linspace(-3, 3, len(planes[0].codes))
    y = PreparedWeight.from_ternary(planes, offset, backend=backend)(values)
    codes, scale = quantize_activation(values)
    token = codes.double() * scale.double()
    weight = torch.stack([(plane.dequantize().double()) for plane in planes])
    exact = token @ weight.sum(0).T + offset.double()
    magnitude = token.abs() @ weight.abs().sum(0).T + offset.double().abs()
    terms = len(planes) * planes[0].scale.shape[1]
    unit = 2.0**-24
    assert bool(((y.double() - exact).abs() <= ((1 + unit) ** (terms + 3) - 1) * magnitude).all())


@every_backend
def test_a_ternary_linear_differs_by_float_rounding_alone(backend):
    torch.manual_seed(0)
    codes = torch.randint(-1, 2, (96, 512), dtype=torch.int8)
    ternary = TernaryWeight(codes, torch.rand(96, 4), 128)
    layer, x = TernaryLinear.from_ternary(ternary, torch.randn(96)), torch.randn(5, 7, 512)
    difference = PreparedWeight.from_ternary([ternary], layer.bias, backend=backend)(x) - layer(x)
    token = torch.mul(*quantize_activation(x)).abs()
    bound = 2.0**-23 * 512 * (token @ layer.weight.abs().T + layer.bias.abs())
    assert bool((difference.abs() <= bound).all())


@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 150)),
        elements=st.one_of(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.integers(-254, 254).map(lambda i: i / 2),  # ties
            st.sampled_from([0.0, 127.0, 1e-45, -1e-45, 3.4e38]),
        ),
    ),
    unit=st.sampled_from([1.0, 1e-44]),
)
def test_activations_are_quantized_as_the_quantizer_does(x, unit):
    x = torch.from_numpy(x) * unit
    codes, scale = quantize_activation(x)
    identity = TernaryWeight(torch.eye(x.shape[1], dtype=torch.int8), torch.ones(1, 1))
    for backend in backends():
        y = PreparedWeight.from_ternary([identity], backend=backend)(x)
        assert torch.equal(y, codes.float() * scale), backend


@every_backend
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 63, 64, 99])
def test_a_token_that_is_not_finite_gives_nan_and_spares_the_others(backend, value, place):
    x = torch.ones(3, 100)
    x[1, place] = value
    codes = torch.ones(5, 100, dtype=torch.int8)
    y = PreparedWeight.from_ternary([TernaryWeight(codes, torch.ones(5, 1))], backend=backend)(x)
    assert bool(y[1].isnan().all())
    assert torch.equal(y[[0, 2]], torch.full((2, 5), 100.0))


WIDE = TernaryWeight(torch.tensor([[1, -1, 0, 1], [0, 1, 1, -1], [1, 1, 1, 1]], dtype=torch.int8), torch.ones(3, 1))


@every_backend
@pytest.mark.parametrize("shape", [(4,), (1, 4), (5, 4), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("view", ["as it is", "negated", "strided", "in half"])
def test_a_product_is_written_into_a_given_tensor(backend, shape, view):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    given = {
        "as it is": x,
        "negated": torch._neg_view(-x),
        "strided": torch.stack([x, x], -1)[..., 0],
        "in half": x.half(),
    }[view]
    weight = PreparedWeight.from_ternary([WIDE], torch.ones(3), backend=backend)
    out = torch.full((*shape[:-1], 3), torch.nan)
    assert weight.into(given, out) is None
    assert torch.equal(out, weight(given.float()))
    assert torch.equal(weight(given), out.to(given.dtype))


@every_backend
@pytest.mark.parametrize(
    "out",
    [
        torch.empty(2, 4),
        torch.empty(3),
        torch.empty(1, 2, 3),
        torch.empty(2, 3, dtype=torch.float64),
        torch.empty(3, 2).T,
        torch.empty(2, 3, requires_grad=True),
        torch.empty(2, 3, device="meta"),
        torch._neg_view(torch.empty(2, 3)),
        torch.empty(2, 3).to_sparse(),
    ],
    ids=["rows", "axes", "more axes", "float64", "strided", "gradient", "meta", "negated", "sparse"],
)
def test_a_tensor_that_the_product_does_not_fit_is_refused(backend, out):
    weight = PreparedWeight.from_ternary([WIDE], backend=backend)
    with pytest.raises(BitnetError, match=r"a product of shape \(2, 3\) cannot be written into"):
        weight.into(torch.ones(2, 4), out)
    with pytest.raises(BitnetError, match="do not fit the kernels"):
        weight.into(torch.ones(2, 5), torch.empty(2, 3))


@compiled
def test_a_torch_that_has_no_exchange_table_does_the_same(monkeypatch):
    weight = PreparedWeight.from_ternary([WIDE])
    monkeypatch.setattr(weight, "_try", lambda *words: False)
    x, out = torch.randn(2, 4), torch.empty(2, 3)
    weight.into(x, out)
    assert torch.equal(out, weight(x))
    assert torch.equal(out, PreparedWeight.from_ternary([WIDE])(x))
    with pytest.raises(BitnetError, match="tensor of shape"):
        weight.into(x, out.T)


@compiled
def test_an_exchange_table_of_another_kind_is_refused_or_left_alone():
    from bitnet.kernels._native import exchange

    with pytest.raises((TypeError, ValueError)):
        exchange(torch.Tensor, object())


@every_backend
def test_a_zero_token_gives_the_bias_and_no_token_gives_nothing(backend):
    weight = PreparedWeight.from_ternary(
        [TernaryWeight(torch.ones(3, 40, dtype=torch.int8), torch.ones(3, 1))],
        torch.tensor([1.0, 2, 3]),
        backend=backend,
    )
    assert torch.equal(weight(torch.zeros(2, 40)), torch.tensor([[1.0, 2, 3], [1, 2, 3]]))
    assert weight(torch.zeros(2, 0, 40)).shape == (2, 0, 3)


@every_backend
def test_strides_and_batches_do_not_matter(backend):
    codes = torch.randint(-1, 2, (33, 60), dtype=torch.int8)
    weight = PreparedWeight.from_ternary([TernaryWeight(codes, torch.rand(33, 1))], backend=backend)
    x = torch.randn(60, 4, 9).permute(1, 2, 0)
    one_by_one = torch.stack([torch.stack([weight(token) for token in row]) for row in x])
    assert torch.equal(weight(x), one_by_one)


def test_threads_change_nothing():
    codes = torch.randint(-1, 2, (2048, 2048), dtype=torch.int8)
    planes, x = [TernaryWeight(codes, torch.rand(2048, 1))], torch.randn(32, 2048)
    alone = PreparedWeight.from_ternary(planes)(x)
    assert torch.equal(PreparedWeight.from_ternary(planes, threads=3)(x), alone)


def test_one_weight_serves_several_python_threads():
    codes = torch.randint(-1, 2, (64, 128), dtype=torch.int8)
    weight = PreparedWeight.from_ternary([TernaryWeight(codes, torch.rand(64, 1))])
    inputs = [torch.randn(3, 128) for _ in range(8)]
    expected, found = [weight(x) for x in inputs], [None] * 8

    def work(i):
        for _ in range(50):
            found[i] = weight(inputs[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@compiled
def test_two_bits_a_weight_are_two_bits_in_memory():
    ternary = TernaryWeight(torch.ones(64, 1024, dtype=torch.int8), torch.ones(64, 1))
    assert PreparedWeight.from_ternary([ternary], backend="portable").bytes == 64 * 1024 // 4 + 64 * 4


def plane(rows=4, width=20, codec="2bit", groups=1):
    return PackedPlane(pack(torch.zeros(rows, width, dtype=torch.int8), codec), codec, torch.ones(rows, groups))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 20), "at least one plane"),
        (([plane()], 0), "at least one plane"),
        (([plane()], (1 << 20) + 1), "1048576 inputs"),
        (([plane()], 24), "do not fit 4 x 24"),
        (([plane(), plane(rows=5)], 20), "do not fit 4 x 20"),
        (([plane()._replace(packed=plane().packed[0, 0])], 20), "do not fit 1 x 20"),
        (([plane()._replace(scale=torch.ones(4, 1).to_sparse())], 20), "take dense tensors"),
        (([plane()], 20, 0), "group_size = 0"),
        (([plane()], 20, 16), "2 groups"),
        (([plane()._replace(scale=torch.ones(4, 1).double())], 20), "float32"),
        (([plane()], 20, None, torch.ones(3)), "bias"),
        (([plane()._replace(packed=torch.full((4, 5), 255, dtype=torch.uint8))], 20), "never writes"),
        (([plane(codec="base3")._replace(packed=torch.full((4, 4), 243, dtype=torch.uint8))], 20), "never writes"),
    ],
)
@every_backend
def test_a_weight_that_does_not_fit_is_refused(backend, arguments, message):
    with pytest.raises(BitnetError, match=message):
        PreparedWeight(*arguments, backend=backend)


def test_other_arguments_are_checked():
    with pytest.raises(BitnetError, match="choose one of"):
        PreparedWeight([plane()], 20, backend="abacus")
    for threads in (-1, 0, 1 << 70):
        with pytest.raises(BitnetError, match=f"threads = {threads} is not allowed"):
            PreparedWeight([plane()], 20, threads=threads)
    with pytest.raises(BitnetError, match="at least one"):
        PreparedWeight.from_ternary([])
    with pytest.raises(BitnetError, match="move the packed weight"):
        PreparedWeight([PackedPlane(*(t if isinstance(t, str) else t.to("meta") for t in plane()))], 20)
    with pytest.raises(BitnetError, match="no compiled form"):
        _ = PreparedWeight([plane()], 20, backend="torch").native


@every_backend
@pytest.mark.parametrize("x", [torch.zeros(3, 19), torch.zeros(20, dtype=torch.int32), torch.zeros(20, device="meta")])
def test_activations_that_do_not_fit_are_refused(backend, x):
    with pytest.raises(BitnetError, match="20 features"):
        PreparedWeight([plane()], 20, backend=backend)(x)


@every_backend
def test_codes_that_do_not_fit_are_refused(backend):
    with pytest.raises(BitnetError, match="20 columns"):
        PreparedWeight([plane()], 20, backend=backend).accumulate(torch.zeros(2, 20))


def test_a_gradient_is_refused():
    x = torch.zeros(20, requires_grad=True)
    weight = PreparedWeight([plane()], 20)
    with pytest.raises(BitnetError, match="no gradient"):
        weight(x)
    with torch.no_grad():
        assert weight(x).shape == (4,)


@every_backend
def test_the_defaults_of_torch_do_not_matter(backend):
    x = torch.randn(2, 3, 20)
    weight = PreparedWeight.from_ternary(
        [TernaryWeight(torch.ones(4, 20, dtype=torch.int8), torch.ones(1, 1))], backend=backend
    )
    expected = weight(x), weight.accumulate(torch.ones(2, 20, dtype=torch.int8))
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            found = weight(x), weight.accumulate(torch.ones(2, 20, dtype=torch.int8, device="cpu"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_backend
def test_a_tensor_that_is_stored_negated_is_read_as_what_it_is(backend):
    x = torch.complex(torch.ones(1, 1), torch.ones(1, 1)).conj().imag
    assert x.is_neg()
    one = TernaryWeight(torch.ones(1, 1, dtype=torch.int8), torch.ones(1, 1))
    assert PreparedWeight.from_ternary([one], backend=backend)(x) == -1


@every_backend
@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn])
def test_a_tensor_that_is_not_dense_is_refused(backend, make):
    with pytest.raises(BitnetError, match="dense float tensor"):
        PreparedWeight([plane()], 20, backend=backend)(make(torch.ones(3, 20)))


@compiled
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_tensor_without_memory_is_refused():
    weight = PreparedWeight([plane()], 20, backend="portable")
    with FakeTensorMode() as mode:
        x, codes = torch.zeros(3, 20), torch.zeros(3, 20, dtype=torch.int8)
    del mode
    with pytest.raises(BitnetError, match="real tensors"):
        weight(x)
    with pytest.raises(BitnetError, match="real tensors"):
        weight.accumulate(codes)
    with pytest.raises(BitnetError, match="real tensors"):
        torch.vmap(weight)(torch.zeros(3, 20))
    with pytest.raises(BitnetError, match="real tensors"):
        PreparedWeight([plane()._replace(scale=x[:1, :1])], 20, backend="portable")
    with pytest.raises(BitnetError, match="real tensors"):
        PreparedWeight([plane()], 20, bias=torch.zeros(4, device="meta"), backend="portable")
