import itertools

import pytest
import torch

from bitnet.artifacts import save_packed
from bitnet.engines import RuntimeEngine, Stopwatch, TransformersEngine, open_engine
from bitnet.errors import BitnetError
from bitnet.kernels import backends
from tests.bitnet.small_models import packed_model, small_model, small_tokenizer

TEMPLATE = "{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}:"


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A packed llama, a packed gpt2 and a plain llama, of which only the first has a chat template."""
    root = tmp_path_factory.mktemp("engines")
    for name in ("llama", "gpt2", "plain"):
        (root / name).mkdir()
    tokenizer = small_tokenizer()
    save_packed(packed_model("gpt2", sparsity_threshold=0.05), tokenizer, root / "gpt2")
    small_model("llama").save_pretrained(root / "plain")
    tokenizer.save_pretrained(root / "plain")
    tokenizer.chat_template = TEMPLATE
    save_packed(packed_model("llama", sparsity_threshold=0.05), tokenizer, root / "llama")
    tokenizer.chat_template = None
    return root


def text(engine, prompt, count=12, **options):
    tokens = engine.encode(prompt)
    return "".join(engine.text(tokens, engine.tokens(tokens, count, **options)))


def test_a_packed_llama_runs_in_the_runtime_and_writes_what_transformers_does(folders):
    native, reference = open_engine(str(folders / "llama")), open_engine(str(folders / "llama"), "torch")
    assert isinstance(native, RuntimeEngine)
    assert native.name == f"native runtime ({backends()[0]}, 1 thread)"
    assert isinstance(reference, TransformersEngine)
    assert reference.name == "transformers"
    assert text(native, "the cat é") == text(reference, "the cat é") != ""
    sampled = [text(engine, "the", temperature=1.0, seed=5) for engine in (native, reference)]
    assert sampled[0] == sampled[1]


@pytest.mark.parametrize("backend", backends()[:-1])
def test_the_backend_that_was_asked_for_runs(folders, backend):
    engine = open_engine(str(folders / "llama"), backend, threads=2)
    assert engine.name == f"native runtime ({backend}, 2 threads)"


def test_what_the_runtime_does_not_have_runs_through_transformers_and_says_why(folders):
    engine = open_engine(str(folders / "gpt2"))
    assert engine.name.startswith("transformers ('model_type' (")
    assert text(engine, "the cat") == text(open_engine(str(folders / "gpt2"), "torch"), "the cat")


def test_a_plain_model_runs_through_transformers(folders):
    assert open_engine(str(folders / "plain"), threads=1).name == "transformers"
    assert torch.get_num_threads() == 1


def test_a_backend_that_cannot_run_the_model_is_refused(folders):
    with pytest.raises(BitnetError, match="does not fit"):
        open_engine(str(folders / "gpt2"), "portable")
    with pytest.raises(BitnetError, match="no packed model"):
        open_engine(str(folders / "plain"), "portable")
    with pytest.raises(BitnetError, match="not available here"):
        open_engine(str(folders / "llama"), "abacus")
    with pytest.raises(BitnetError, match="0 threads"):
        open_engine(str(folders / "llama"), threads=0)


def test_a_damaged_packed_model_is_not_tried_elsewhere(folders, tmp_path):
    for path in (folders / "llama").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(BitnetError, match=r"model\.safetensors has 5 bytes"):
        open_engine(str(tmp_path))


@pytest.mark.parametrize("backend", [None, "torch"])
def test_a_question_is_put_into_the_chat_template(folders, backend):
    engine = open_engine(str(folders / "llama"), backend)
    question = "[user] the cat?:"
    assert engine.encode("the cat?", chat=True) == small_tokenizer()(question)["input_ids"]
    with pytest.raises(BitnetError, match="no chat template"):
        open_engine(str(folders / "gpt2"), backend).encode("the cat?", chat=True)


def test_a_template_that_does_not_work_is_one_sentence(folders):
    engine = open_engine(str(folders / "plain"))
    engine.loaded.tokenizer.chat_template = "{{ messages[3].content.missing }}"
    with pytest.raises(BitnetError, match=r"chat template of .*plain does not work"):
        engine.encode("the cat?", chat=True)


def test_a_stopwatch_counts_tokens_and_times_those_behind_the_first(monkeypatch):
    clock = itertools.chain([10.0], [10.5, 10.75, 11.5], itertools.repeat(99.0))
    monkeypatch.setattr("bitnet.engines.time.perf_counter", lambda: next(clock))
    stopwatch = Stopwatch(iter([7, 8, 9]))
    assert list(stopwatch) == [7, 8, 9]
    assert str(stopwatch) == "3 tokens, 0.50 s to the first, then 2.0 a second"


@pytest.mark.parametrize(("tokens", "counted"), [([], "0 tokens,"), ([7], "1 token,")])
def test_a_stopwatch_of_few_tokens_gives_no_rate(tokens, counted):
    stopwatch = Stopwatch(iter(tokens))
    list(stopwatch)
    assert f"{stopwatch},".startswith(counted)
    assert "second" not in str(stopwatch)
