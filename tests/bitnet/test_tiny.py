import dataclasses
import io
import math
from collections import Counter

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from bitnet import tiny
from bitnet.models import count_parameters
from bitnet.perplexity import perplexity
from bitnet.text import heldout_text, training_text
from bitnet.tiny import TinyRecipe, learning_rate, train_model, train_tiny, train_tokenizer
from tests.bitnet.trained_model import trained_model

QUICK = TinyRecipe(
    vocabulary=300, width=16, layers=1, feed_forward=16, heads=1, positions=32, steps=3, batch=2, tokens=8, threads=1
)
TEXT = training_text()[:20_000]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXT, 300)


@pytest.fixture
def little_text(monkeypatch):
    monkeypatch.setattr(tiny, "training_text", lambda: TEXT)


def quick_weights(tmp_path, **changes):
    folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    train_tiny(dataclasses.replace(QUICK, **changes), folder)
    return (folder / "model.safetensors").read_bytes()


# ----------------------------------------------------------------- the tokenizer


@pytest.mark.parametrize("text", ["plain words", "  spaces   and\ttabs\n\n", "Größe 中文 🙂 \x00\x7f", "<s> inside"])
def test_every_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert max(ids) < 300


def test_the_tokenizer_has_all_its_tokens_and_adds_none_of_its_own_accord(tokenizer):
    assert len(tokenizer) == 300
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1)
    assert not {0, 1} & set(tokenizer(heldout_text())["input_ids"])


def test_the_tokenizer_is_the_same_every_time(tokenizer):
    assert train_tokenizer(TEXT, 300).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


# ----------------------------------------------------------------- the recipe


def test_the_recipe_is_a_llama_of_three_quarters_of_a_million_parameters():
    recipe = TinyRecipe(steps=0)
    vocabulary = train_tokenizer(TEXT, recipe.vocabulary)
    model = train_model(recipe, torch.zeros(300, dtype=torch.int64), vocabulary)
    assert 750_000 < count_parameters(model) < 850_000
    assert model.config.model_type == "llama"
    assert model.config.max_position_embeddings >= 512
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (model.config.bos_token_id, model.config.eos_token_id) == (0, 1)


def test_the_learning_rate_rises_stays_and_falls_over_the_last_half():
    recipe = TinyRecipe(steps=100, warm_up=10)
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)


def test_whatever_shapes_the_weights_is_in_the_key(monkeypatch):
    keys = [TinyRecipe().key()]
    assert TinyRecipe().key() == keys[0]
    for field in dataclasses.fields(TinyRecipe):
        keys.append(dataclasses.replace(TinyRecipe(), **{field.name: field.default * 2 + 1}).key())
    monkeypatch.setattr(tiny, "training_text", lambda: TEXT)
    keys.append(TinyRecipe().key())
    monkeypatch.setattr(torch, "__version__", "9.9")
    keys.append(TinyRecipe().key())
    assert len(set(keys)) == len(keys)


# ----------------------------------------------------------------- the training


def test_a_model_that_trained_for_seconds_beats_the_frequencies_of_its_tokens():
    """Perplexity on held-out text against the best that knowing the training text's token frequencies can give."""
    model, tokenizer = trained_model()
    text = heldout_text()[:4_000]
    counts = Counter(tokenizer(training_text()[:60_000])["input_ids"])
    total = sum(counts.values()) + len(tokenizer)
    ids = tokenizer(text)["input_ids"]
    frequencies = math.exp(-sum(math.log((counts[token] + 1) / total) for token in ids) / len(ids))
    assert perplexity(model, tokenizer, [text], context_length=48).token_perplexity < 0.8 * frequencies


def test_a_recipe_gives_the_same_weights_bit_by_bit_and_another_seed_gives_others(little_text, tmp_path):
    first = quick_weights(tmp_path)
    torch.manual_seed(99)
    assert quick_weights(tmp_path) == first
    assert quick_weights(tmp_path, seed=1) != first


def test_random_state_and_threads_are_the_callers_again(little_text, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(tiny, "train_model", lambda *_: seen.append(torch.get_num_threads()) or 1 / 0)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    for wanted in (threads + 1, threads + 2):
        with pytest.raises(ZeroDivisionError):
            quick_weights(tmp_path, threads=wanted)
    assert seen == [threads + 1, threads + 2]
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_folder_is_one_that_plain_transformers_loads(little_text, tmp_path):
    train_tiny(QUICK, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer("a <b> é\n")["input_ids"]) == "a <b> é\n"
    prompt = tokenizer("The ", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False, pad_token_id=1).shape[0] == 1


def test_a_log_is_told_in_one_line_what_takes_so_long(little_text, tmp_path, capfd):
    train_tiny(QUICK, tmp_path)
    assert capfd.readouterr() == ("", "training the built-in model tiny (once, one to two minutes)\n")


def test_a_terminal_shows_how_far_it_is(little_text, tmp_path, capfd, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(tiny, "terminal", lambda: Console(file=screen, force_terminal=True, width=120))
    train_tiny(QUICK, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert "training the built-in model tiny" in screen.getvalue()
    assert "100%" in screen.getvalue()
