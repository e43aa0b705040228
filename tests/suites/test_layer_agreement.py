"""Parts of two models on one input: rounding alone passes, and what is wrong by a percent in one layer does not."""

import math

import pytest
import torch

from harness.mutants.reference.decoding import DAMAGE, Decoder
from suites.layer_agreement import (
    PartReading,
    Parts,
    distances,
    layers_of,
    one_step,
    parts_of,
    parts_of_decoder,
    rounded_otherwise,
)
from suites.small_models import random_llama

TEXT = [(7 * place * place + 3) % 251 for place in range(40)]
MODEL = random_llama(layers=3)


def read(defect=""):
    reading = PartReading()
    for seed, text in enumerate((TEXT, TEXT[::-1])):
        reading.read(MODEL, Decoder(random_llama(layers=3), defect), text, seed)
    return reading


def hold(reading):
    reading.hold(lambda index: f"part {index}")


def test_a_step_is_the_next_float_or_none():
    values = torch.tensor([1.0, -3.0, 0.0, 1e-30]).repeat(200)
    moved = one_step(values, torch.Generator().manual_seed(0))
    above, below = values.nextafter(torch.tensor(torch.inf)), values.nextafter(torch.tensor(-torch.inf))
    kinds = [moved == values, moved == above, moved == below]
    assert all(kind.sum() > 200 for kind in kinds)
    assert bool(torch.stack(kinds).any(dim=0).all())


def test_a_model_rounds_otherwise_for_as_long_as_it_is_asked_to():
    tokens = torch.tensor([TEXT])
    with torch.no_grad():
        right = MODEL(tokens).logits
        with rounded_otherwise(MODEL, 1):
            moved = MODEL(tokens).logits
        assert torch.equal(MODEL(tokens).logits, right)
    assert 0 < (moved - right).abs().max() < 1e-4


def test_parts_make_up_the_model_and_are_given_what_is_asked_for():
    right = parts_of(MODEL, TEXT)
    assert len(right.states) == 4
    with torch.no_grad():
        assert torch.equal(right.logits, MODEL(torch.tensor([TEXT])).logits[0])
        assert torch.equal(right.states[0], MODEL.model.embed_tokens(torch.tensor(TEXT)))
    given = Parts([state + 1 for state in right.states], right.logits)
    found = parts_of(MODEL, TEXT, given)
    assert torch.equal(found.states[0], right.states[0])
    assert not torch.equal(found.states[1], right.states[1])
    with torch.no_grad():
        assert torch.allclose(found.logits, MODEL.lm_head(MODEL.model.norm(given.states[-1])), atol=1e-5)
    assert len(layers_of(MODEL)) == 3


def test_a_distance_is_told_by_what_the_part_adds():
    right = Parts([torch.ones(2, 4), torch.full((2, 4), 3.0)], torch.full((2, 5), 10.0))
    found = Parts([torch.ones(2, 4), torch.tensor([[3.0] * 4, [3.5] * 4])], torch.full((2, 5), 11.0))
    assert distances(found, right).tolist() == [[0, 0], [0, 0.25], pytest.approx([0.1, 0.1])]


def test_the_same_model_agrees_and_rounding_is_measured():
    reading = read()
    hold(reading)
    assert reading.largest() < 1e-6
    assert torch.cat(reading.rounding, dim=1).max() > 0


@pytest.mark.parametrize("defect", list(DAMAGE))
def test_a_layer_that_is_a_little_wrong_is_named(defect):
    with pytest.raises(AssertionError, match=r"off by more than 16 times what rounding makes: part 1 \(\S+\)$"):
        hold(read(defect))


def test_one_token_that_is_lost_is_told():
    with pytest.raises(AssertionError, match="a token is off by"):
        hold(read("one token lost"))


def test_a_number_of_layers_that_is_another_is_told():
    decoder = Decoder(random_llama(layers=3), "a layer that is not counted")
    with pytest.raises(AssertionError, match="2 layers, the model 3"):
        parts_of_decoder(decoder, TEXT, parts_of(MODEL, TEXT))


def test_many_tokens_set_apart_and_what_is_no_number_are_told():
    reading = PartReading()
    rounding = torch.full((2, 40), 1e-7).double()
    off = rounding.clone()
    off[:, 30:] = 1e-2
    reading.ours, reading.rounding = [off], [rounding]
    assert reading.shares() == (0.25, 0.0)
    with pytest.raises(AssertionError, match=r"25.0% of the tokens are set apart, 0.0% by rounding"):
        hold(reading)
    reading.ours = [torch.full((2, 40), math.nan).double()]
    with pytest.raises(AssertionError, match="off by more than"):
        hold(reading)
