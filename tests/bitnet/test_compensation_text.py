import pytest
import torch

from bitnet.compensation_text import compensation_text
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.models import load_model
from bitnet.perplexity import prefix_token
from tests.bitnet.phase4 import write_model

TEXT = "Words are read and words are written, one after another, until there are enough of them. " * 30
SOURCE = "a text"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(str(write_model(tmp_path_factory.mktemp("compensation") / "model")))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BITNET_AUDIT_CACHE", str(tmp_path / "cache"))


def read(loaded, source="both", samples=5, **settings):
    config = Phase4Config(compensation_source=source, compensation_samples=samples, compensation_tokens=16, **settings)
    return compensation_text(loaded, config, TEXT, SOURCE)


def test_half_of_both_is_the_beginning_of_each(loaded):
    both, own, text = read(loaded), read(loaded, "model", 3), read(loaded, "text", 2)
    assert torch.equal(both.tokens, torch.cat([own.tokens, text.tokens]))
    assert both.source == f"{own.source}, and {SOURCE}"
    assert both.written
    assert own.written
    assert not text.written


def test_every_sample_begins_as_in_evaluation(loaded):
    both = read(loaded)
    assert both.tokens.shape == (5, 16)
    assert (both.tokens[:, 0] == prefix_token(loaded.tokenizer)).all()


def test_given_text_is_read_alone(loaded, tmp_path):
    given = read(loaded, calibration_text=str(tmp_path / "given.txt"))
    assert torch.equal(given.tokens, read(loaded, "text").tokens)
    assert not given.written


def test_text_stands_in_for_what_the_model_cannot_write(loaded, monkeypatch):
    def fail(*_):
        raise BitnetError("The model predicts NaN.")

    monkeypatch.setattr("bitnet.compensation_text.sample_sequences", fail)
    found = read(loaded)
    assert torch.equal(found.tokens, read(loaded, "text").tokens)
    assert found.reason == "The model predicts NaN."
    assert not found.written
