import torch
from transformers.modeling_outputs import CausalLMOutput

from bitnet.ablation.copying import copy_accuracy
from tests.bitnet.small_models import VOCABULARY, small_model, small_tokenizer


def one_hot(tokens):
    return CausalLMOutput(logits=torch.nn.functional.one_hot(tokens, VOCABULARY).float())


def test_a_model_that_looks_back_copies_and_one_that_does_not_fails():
    def attentive(input_ids, use_cache):
        return one_hot(input_ids.roll(11, dims=1))  # what stood behind the last occurrence of the token

    def forgetful(input_ids, use_cache):
        return one_hot(input_ids)

    assert copy_accuracy(attentive, small_tokenizer(), 20, 12) == 1.0
    assert copy_accuracy(forgetful, small_tokenizer(), 20, 12) < 0.05


def test_a_random_model_guesses():
    assert copy_accuracy(small_model("llama"), small_tokenizer(), 20, 12) < 0.05
