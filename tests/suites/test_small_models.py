"""The small models have what the suites rely on: every text can be encoded, seeds decide, defects reach the files."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.texts import UNUSUAL
from suites.small_models import PREFIX, byte_tokenizer, random_llama, save_random_llama


def test_the_tokenizer_has_one_token_for_each_byte():
    tokenizer = byte_tokenizer()
    assert len(tokenizer) == 257
    assert len(tokenizer.encode(UNUSUAL)) == len(UNUSUAL.encode())
    assert tokenizer.decode(tokenizer.encode(UNUSUAL)) == UNUSUAL
    assert tokenizer.bos_token_id == tokenizer.convert_tokens_to_ids(PREFIX) == 256


def test_the_same_seed_gives_the_same_model_and_leaves_random_numbers_alone():
    state = torch.random.get_rng_state()
    first, again, other = random_llama(1), random_llama(1), random_llama(2)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [model.get_input_embeddings().weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_predictions_differ_between_tokens():
    """A nearly uniform model would hide errors: its most likely token must stand out, and change along a text."""
    tokens = torch.tensor([byte_tokenizer().encode("Once upon a time")])
    with torch.no_grad():
        probabilities = torch.softmax(random_llama()(tokens).logits[0], dim=-1)
    assert probabilities.amax(dim=-1).mean() > 0.1
    assert len(set(probabilities.argmax(dim=-1).tolist())) > 5


def test_a_saved_model_reloads_with_its_tied_head_and_the_planted_defect(tmp_path):
    def plant(model):
        with torch.no_grad():
            model.get_submodule("model.layers.0.mlp.up_proj").weight.fill_(7.0)

    folder = save_random_llama(tmp_path / "model", seed=3, layers=1, change=plant)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (model.get_submodule("model.layers.0.mlp.up_proj").weight == 7.0).all()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, random_llama(3, layers=1).get_input_embeddings().weight)
    assert AutoTokenizer.from_pretrained(folder).encode("é") == byte_tokenizer().encode("é")
