"""A stand-in for llama-cpp-python: its C interface over a model that counts, and a compiled library."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from harness.opponents import ggml, llama_cpp

VOCABULARY = 11


class FakeBatch(SimpleNamespace):
    pass


class FakeLlama(ModuleType):
    """Predicts the token after the last one; counts what is open."""

    LLAMA_FTYPE_MOSTLY_Q4_0, LLAMA_FTYPE_MOSTLY_TQ2_0 = 2, 37

    def __init__(self):
        super().__init__("llama_cpp.llama_cpp")
        self.opened, self.seen, self.status, self.quantized = 0, [], 0, []
        self.rows = {}

    def llama_backend_init(self):
        pass

    def llama_log_set(self, callback, data):
        callback(1, b"words that nobody asked for", None)

    def llama_model_quantize_default_params(self):
        class Parameters(ctypes.Structure):
            _fields_ = (("ftype", ctypes.c_int), ("nthread", ctypes.c_int))

        return Parameters()

    def llama_model_quantize(self, source, out, parameters):
        self.quantized.append((source, out, parameters._obj.ftype, parameters._obj.nthread))
        return self.status

    def llama_model_default_params(self):
        return SimpleNamespace(n_gpu_layers=99)

    def llama_model_load_from_file(self, path, parameters):
        assert parameters.n_gpu_layers == 0
        self.opened += not path.endswith(b"missing")
        return None if path.endswith(b"missing") else "model"

    def llama_model_get_vocab(self, model):
        return "vocabulary"

    def llama_vocab_n_tokens(self, vocabulary):
        return VOCABULARY

    def llama_context_default_params(self):
        return SimpleNamespace(n_threads=8, n_threads_batch=8)

    def llama_init_from_model(self, model, settings):
        assert (settings.n_threads, settings.n_threads_batch) == (1, 1)
        self.opened += 1
        return "context"

    def llama_free(self, context):
        self.opened -= 1

    def llama_model_free(self, model):
        self.opened -= 1

    def llama_get_memory(self, context):
        return "memory"

    def llama_memory_clear(self, memory, data):
        self.seen = []

    def llama_batch_get_one(self, array, count):
        return list(array[:count])

    def llama_batch_init(self, count, embeddings, sequences):
        parts = {name: [0] * count for name in ("token", "pos", "logits", "n_seq_id")}
        return FakeBatch(n_tokens=0, seq_id=[[9] for _ in range(count)], **parts)

    def llama_batch_free(self, batch):
        batch.n_tokens = None

    def llama_decode(self, context, batch):
        if isinstance(batch, FakeBatch):
            assert batch.pos == list(range(batch.n_tokens))
            assert batch.seq_id == [[0]] * batch.n_tokens
            batch = batch.token
        self.seen += batch
        self.rows = {index: (token + 1) % VOCABULARY for index, token in enumerate(batch)}
        self.rows[-1] = self.rows[len(batch) - 1]
        return self.status

    def llama_get_logits_ith(self, context, index):
        self.kept = (ctypes.c_float * VOCABULARY)()
        self.kept[self.rows[index]] = 3.0
        return ctypes.cast(self.kept, ctypes.POINTER(ctypes.c_float))


@pytest.fixture
def fake_llama(monkeypatch, tmp_path_factory):
    package, fake = ModuleType("llama_cpp"), FakeLlama()
    package.llama_cpp = fake
    package.__file__ = str(tmp_path_factory.mktemp("llama_cpp") / "__init__.py")
    monkeypatch.setitem(sys.modules, "llama_cpp", package)
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_cpp", fake)
    monkeypatch.setattr("harness.opponents.find_spec", lambda name: package)
    for cached in (llama_cpp.library, ggml._library):
        cached.cache_clear()
    yield fake
    for cached in (llama_cpp.library, ggml._library):
        cached.cache_clear()


@pytest.fixture(scope="session")
def compiled_ggml(tmp_path_factory):
    out = tmp_path_factory.mktemp("ggml") / "libllama.so"
    source = Path(__file__).with_name("fake_ggml.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(source), "-o", str(out)], check=True)
    return out
