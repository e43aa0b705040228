import pytest
import torch

from harness.opponents import OpponentAbsent, products
from harness.opponents.products import DynamicInt8Product, FloatProduct, SubjectProduct, dense, torch_products
from harness.subject import QuantizedWeight

GENERATOR = torch.Generator().manual_seed(0)
CODES = torch.randint(-1, 2, (24, 64), dtype=torch.int8, generator=GENERATOR)
WEIGHTS = [QuantizedWeight(CODES, torch.tensor([[0.5]])), QuantizedWeight(-CODES, torch.tensor([[0.25]]))]
X = torch.randn(3, 64, generator=GENERATOR)


@pytest.mark.parametrize("product", torch_products(), ids=lambda product: product.name)
def test_each_of_torch_computes_the_first_weights_product(product):
    prepared = product.prepare(WEIGHTS, X, 3)
    exact = X.double() @ dense(WEIGHTS[0]).double().T
    assert (prepared.output().double() - exact).norm() < 0.05 * exact.norm()
    prepared.run()


def test_names_and_bits_are_those_of_the_format():
    told = {product.name: product.bits for product in torch_products()}
    assert told == {
        "torch float32": 32.0,
        "torch bfloat16": 16.0,
        "torch int8 (fbgemm)": 8.0,
        "torch int8 (onednn)": 8.0,
    }


def test_an_engine_that_torch_lacks_is_absent_in_words():
    with pytest.raises(OpponentAbsent, match="no engine of that name"):
        DynamicInt8Product("qnnpack2").prepare(WEIGHTS, X, 1)


def test_quantizing_leaves_torchs_own_engine_as_it_was():
    before = torch.backends.quantized.engine
    DynamicInt8Product("onednn").prepare(WEIGHTS, X, 1)
    assert torch.backends.quantized.engine == before


def test_weights_are_taken_in_turn():
    called = []
    layers = [lambda x, name=name: called.append(name) for name in "ab"]
    prepared = products.in_turn(layers, X, 3, "")
    prepared.run()
    assert called == ["a", "b", "a"]
    prepared.run()  # goes on where it ended
    assert called[3:] == ["b", "a", "b"]
    called.clear()
    products.in_turn(layers, X, 3, "", torch.ones(1)).once()
    assert called == ["a"]


def test_the_subject_prepares_each_weight_by_itself():
    given = []

    class Subject:
        def prepare_product(self, planes, bias=None, backend=None):
            given.append(planes)
            return lambda x: x @ dense(planes[0]).T

    prepared = SubjectProduct(Subject()).prepare(WEIGHTS, X, 2)
    assert given == [[WEIGHTS[0]], [WEIGHTS[1]]]
    assert torch.equal(prepared.output(), X @ dense(WEIGHTS[0]).T)


def test_a_subject_that_writes_into_a_tensor_is_timed_without_making_one():
    written = []

    class Product:
        def __init__(self, weight):
            self.weight = weight

        def into(self, x, out):
            torch.mm(x, dense(self.weight).T, out=out)
            written.append(out.data_ptr())

    class Subject:
        def prepare_product(self, planes, bias=None, backend=None):
            return Product(planes[0])

    prepared = SubjectProduct(Subject()).prepare(WEIGHTS, X, 2)
    prepared.run()
    assert len(written) == 2
    assert len(set(written)) == 1
    assert torch.equal(prepared.output(), X @ dense(WEIGHTS[0]).T)


class Joins:
    """A subject with one call for several products, which leaves out those that are named."""

    def __init__(self, *left_out):
        self.left_out, self.joined = left_out, []

    def prepare_product(self, planes, bias=None, backend=None):
        return lambda x: x @ dense(planes[0]).T

    def join_products(self, made):
        self.joined.append(made)
        return self.Call(made, self.left_out)

    class Call:
        def __init__(self, made, left_out):
            self.made, self.left_out = made, left_out

        def into(self, x, outs):
            for place, (product, out) in enumerate(zip(self.made, outs, strict=True)):
                if place not in self.left_out:
                    out.copy_(product(x))


@pytest.mark.parametrize(("products", "turns"), [(3, ["aba"]), (2, ["ab"]), (1, ["a", "b"])])
def test_a_subject_with_one_call_for_several_products_is_timed_by_it(products, turns):
    subject = Joins()
    prepared = SubjectProduct(subject, together=True).prepare(WEIGHTS, X, products)
    names = dict(zip(dict.fromkeys(product for call in subject.joined for product in call), "ab", strict=True))
    assert ["".join(names[product] for product in call) for call in subject.joined] == turns
    results = {"a": X @ dense(WEIGHTS[0]).T, "b": X @ dense(WEIGHTS[1]).T}
    assert torch.equal(prepared.output(), torch.stack([results[name] for name in "".join(turns)]))
    assert "one call" in prepared.way
    prepared.run()
    prepared.once()


def test_a_product_that_the_one_call_leaves_out_is_no_number():
    output = SubjectProduct(Joins(1), together=True).prepare(WEIGHTS, X, 2).output()
    assert output[0].isfinite().all()
    assert output[1].isnan().all()


def test_a_subject_with_one_call_is_asked_for_each_product_where_its_rivals_are():
    subject = Joins()
    assert "each" in SubjectProduct(subject).prepare(WEIGHTS, X, 2).way
    assert not subject.joined


def test_scale_groups_are_spread_over_their_inputs():
    grouped = QuantizedWeight(torch.ones(1, 5, dtype=torch.int8), torch.tensor([[1.0, 2.0]]), 3)
    assert dense(grouped).tolist() == [[1.0, 1.0, 1.0, 2.0, 2.0]]
    assert FloatProduct(torch.float32).prepare([grouped], torch.ones(1, 5), 1).output().item() == 7.0
