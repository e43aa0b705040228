from types import SimpleNamespace

import pytest
import torch

from bitnet.errors import BitnetError
from bitnet.generation import generate
from tests.bitnet.small_models import ARCHITECTURES, VOCABULARY, small_model, small_tokenizer


@pytest.fixture(scope="module")
def llama():
    return small_model("llama")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_text_is_the_one_that_the_library_generates(architecture):
    model, tokenizer = small_model(architecture), small_tokenizer()
    prompt = tokenizer("the cat", return_tensors="pt")
    expected = model.generate(**prompt, max_new_tokens=12, do_sample=False, pad_token_id=1)
    continuation = expected[0, prompt["input_ids"].shape[1] :]
    assert "".join(generate(model, tokenizer, "the cat", 12)) == tokenizer.decode(
        continuation, skip_special_tokens=True
    )


def test_a_seed_gives_the_same_text_again_and_another_seed_another(llama):
    def sample(seed):
        return "".join(generate(llama, small_tokenizer(), "the", 20, temperature=1.5, seed=seed))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


class Scripted(torch.nn.Module):
    """Gives one token after another the highest logit."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens, self.calls, self.device = tokens, 0, torch.device("cpu")
        self.config = SimpleNamespace(max_position_embeddings=128, eos_token_id=[0, 7])
        self.generation_config = SimpleNamespace(eos_token_id=None)

    def forward(self, input_ids, past_key_values, use_cache):
        logits = torch.zeros(1, input_ids.shape[1], VOCABULARY)
        logits[0, -1, self.tokens[self.calls]] = 1.0
        self.calls += 1
        return SimpleNamespace(logits=logits, past_key_values=None)


def test_a_character_of_several_tokens_is_yielded_whole():
    tokens = small_tokenizer()("aé€€")["input_ids"][:-1]
    assert len(tokens) == 1 + 2 + 3 + 2
    pieces = list(generate(Scripted(tokens), small_tokenizer(), "the", len(tokens)))
    assert pieces == ["a", "é", "€", "\ufffd"]


@pytest.mark.parametrize("end", [0, 7])
def test_generation_stops_at_an_end_token_of_the_configuration(end):
    a = small_tokenizer()("a")["input_ids"][0]
    assert list(generate(Scripted([a, a, end, a]), small_tokenizer(), "the", 4)) == ["a", "a"]


def test_the_end_tokens_of_the_generation_settings_come_first():
    model = Scripted([7, 3, 9])
    model.generation_config.eos_token_id = 3
    assert len(list(generate(model, small_tokenizer(), "the", 3))) == 1
    assert model.calls == 2


def test_without_end_token_every_token_asked_for_is_generated():
    model = Scripted([0, 0, 7])
    model.config.eos_token_id = None
    list(generate(model, small_tokenizer(), "the", 3))
    assert model.calls == 3


def test_generation_stops_where_the_positions_end(llama):
    prompt = "the" * 126
    calls = []
    hook = llama.register_forward_hook(lambda *_: calls.append(1))
    list(generate(llama, small_tokenizer(), prompt, 50))
    hook.remove()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("prompt", "temperature", "sentence"),
    [
        ("", 0.0, "The prompt is empty"),
        ("the" * 128, 0.0, "has 128 tokens but the model has 128 positions"),
        ("the", -1.0, "temperature is -1"),
        ("the", float("nan"), "temperature is nan"),
    ],
)
def test_bad_requests_are_told_in_one_sentence(llama, prompt, temperature, sentence):
    with pytest.raises(BitnetError, match=sentence):
        generate(llama, small_tokenizer(), prompt, 5, temperature)
