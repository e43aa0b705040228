"""A model that has learned a little: the recipe of `tiny`, made smaller and trained for some seconds."""

import copy
import functools

import torch

from bitnet.text import training_text
from bitnet.tiny import TinyRecipe, train_model, train_tokenizer

RECIPE = TinyRecipe(
    vocabulary=320,
    width=48,
    layers=2,
    feed_forward=96,
    heads=2,
    positions=64,
    steps=60,
    batch=8,
    tokens=48,
    gap=16,
    threads=1,
)


def trained_model():
    """A copy of the model (float32, evaluation mode), and its tokenizer."""
    model, tokenizer = _trained()
    return copy.deepcopy(model), tokenizer


@functools.cache
def _trained():
    text = training_text()[:60_000]
    tokenizer = train_tokenizer(text, RECIPE.vocabulary)
    with torch.random.fork_rng():
        torch.manual_seed(RECIPE.seed)
        return train_model(RECIPE, torch.tensor(tokenizer.encode(text)), tokenizer), tokenizer
