import ctypes
import gc
import shutil
from pathlib import Path

import pytest
import torch

from harness.opponents import OpponentAbsent, ggml
from harness.opponents.ggml import GgmlTernaryProduct
from harness.opponents.products import dense
from harness.subject import QuantizedWeight

GENERATOR = torch.Generator().manual_seed(0)
CODES = torch.randint(-1, 2, (6, 512), dtype=torch.int8, generator=GENERATOR)
WEIGHTS = [QuantizedWeight(CODES, torch.tensor([[0.5]])), QuantizedWeight(-CODES, torch.tensor([[0.25]]))]
X = torch.randn(3, 512, generator=GENERATOR)


@pytest.fixture
def library(fake_llama, compiled_ggml, monkeypatch):
    import llama_cpp

    place = Path(llama_cpp.__file__).parent / "lib"
    place.mkdir()
    shutil.copy(compiled_ggml, place)
    return ctypes.CDLL(str(place / "libllama.so"))


def test_a_graph_of_products_gives_the_first_weights_product(library):
    prepared = GgmlTernaryProduct().prepare(WEIGHTS, X, 5)
    prepared.run()
    prepared.once()
    torch.testing.assert_close(prepared.output(), X @ dense(WEIGHTS[0]).T, rtol=1e-4, atol=1e-3)


def test_a_run_goes_on_with_the_weights_where_the_last_one_ended(library, monkeypatch):
    computed = []
    compute = ggml._Products._compute
    monkeypatch.setattr(ggml._Products, "_compute", lambda self, graph: (computed.append(graph), compute(self, graph)))
    prepared = GgmlTernaryProduct().prepare([*WEIGHTS, WEIGHTS[0]], X, 2)
    for _ in range(3):
        prepared.run()
    assert len(set(computed)) == 2
    assert computed[0] == computed[2]


def test_contexts_go_with_the_graph(library):
    prepared = GgmlTernaryProduct().prepare(WEIGHTS, X, 2)
    prepared.run()
    assert library.fake_open_contexts() == 1
    del prepared
    gc.collect()
    assert library.fake_open_contexts() == 0


def test_a_computation_that_fails_is_an_error(library):
    prepared = GgmlTernaryProduct().prepare(WEIGHTS, X, 1)
    library.fake_status(2)
    with pytest.raises(RuntimeError, match="status 2"):
        prepared.run()
    library.fake_status(0)


def test_without_its_library_it_is_absent_in_words(fake_llama):
    with pytest.raises(OpponentAbsent, match=r"cannot be reached through libllama\.so"):
        ggml._library()
