import pytest
import torch

from bitnet.errors import BitnetError
from bitnet.self_text import GREEDY, sample_sequences
from tests.bitnet.small_models import VOCABULARY, small_model, small_tokenizer


def test_texts_begin_with_the_prefix_and_a_token_of_their_own_and_go_on_greedily():
    model = small_model("llama")
    tokens = sample_sequences(model, small_tokenizer(), 20, 12, seed=3)
    assert tokens.shape == (20, 12)
    assert (tokens[:, 0] == 0).all()
    assert len(set(tokens[:, 1].tolist())) == 20
    assert int(tokens[:, 1].min()) > 1  # no special token
    with torch.no_grad():
        logits = model(tokens).logits
    assert torch.equal(logits[:, 1 : 1 + GREEDY].argmax(dim=2), tokens[:, 2 : 2 + GREEDY])
    assert not torch.equal(logits[:, 1 + GREEDY : -1].argmax(dim=2), tokens[:, 2 + GREEDY :])


def test_what_follows_is_drawn_as_the_model_predicts_it():
    """Over many texts the mean log-probability of a drawn token is minus the model's entropy."""
    model = small_model("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(4.0)  # tied: far from uniform
    tokens = sample_sequences(model, small_tokenizer(), 200, 16, seed=1)[:, :VOCABULARY]
    with torch.no_grad():
        logs = model(tokens).logits.log_softmax(dim=2)[:, 1 + GREEDY : -1]
    chosen = logs.gather(2, tokens[:, 2 + GREEDY :, None]).mean()
    entropy = -(logs.exp() * logs).sum(dim=2).mean()
    assert float(-chosen) == pytest.approx(float(entropy), rel=0.08)


def test_a_seed_gives_the_same_texts_and_progress_is_told():
    model, told = small_model("gpt2"), []
    first = sample_sequences(model, small_tokenizer(), 3, 10, 5, lambda done, total: told.append((done, total)))
    assert torch.equal(first, sample_sequences(model, small_tokenizer(), 3, 10, 5))
    assert not torch.equal(first, sample_sequences(model, small_tokenizer(), 3, 10, 6))
    assert told[-1] == (10, 30)


def test_a_model_that_predicts_nonsense_is_refused():
    model = small_model("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(BitnetError, match="NaN or infinity"):
        sample_sequences(model, small_tokenizer(), 2, 10, 0)
