import dataclasses

import pytest
import torch

from bitnet.architectures import layer_plan
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.layer_store import LayerStore
from bitnet.reconstruction import Reconstruction
from bitnet.ternarizer import Settings, ternarize
from tests.bitnet.small_models import VOCABULARY, small_model

TOKENS = torch.randint(2, VOCABULARY, (12, 64), generator=torch.Generator().manual_seed(4))
OTHERS = torch.randint(2, VOCABULARY, (6, 64), generator=torch.Generator().manual_seed(5))
TRAINING = Reconstruction(TOKENS, steps=40, learning_rate=3e-4, batch_size=4, seed=0, narrow=False)


def settings(model, reconstruction=None, group_size=None):
    names = [decision.name for decision in layer_plan(model) if decision.quantized]
    return Settings(dict.fromkeys(names, 1), group_size, 8, "uint8", reconstruction)


@torch.no_grad()
def distance(model, layers, group_size=None):
    """Relative squared distance of logits, on text that nothing was fitted to."""
    group = {} if group_size is None else {"granularity": "group", "group_size": group_size}
    config = Phase4Config(compensation="sequential", embedding_dtype="float32", scale_dtype="uint8", **group)
    made = CompressedModel.from_planes(model, config.resolved(1000), layers).model
    expected = model(OTHERS).logits
    return float((made(OTHERS).logits - expected).square().sum() / (expected - expected.mean()).square().sum())


def same(one, other):
    return all(
        torch.equal(one[name].packed, layer.packed) and torch.equal(one[name].scale, layer.scale)
        for name, layer in other.items()
    )


@pytest.mark.parametrize(("architecture", "group_size"), [("llama", None), ("gpt2", 16)])
def test_a_trained_model_is_nearer_to_the_given_one(architecture, group_size):
    model = small_model(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = ternarize(model, TOKENS, settings(model, None, group_size))
    trained = ternarize(model, TOKENS, settings(model, TRAINING, group_size))
    assert list(trained) == list(plain)
    assert distance(model, trained, group_size) < 0.95 * distance(model, plain, group_size)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_codes_and_scales_both_move():
    model = small_model("llama")
    plain, trained = (ternarize(model, TOKENS, settings(model, how)) for how in (None, TRAINING))
    first = next(iter(plain))
    assert not torch.equal(plain[first].packed, trained[first].packed)
    assert not torch.equal(plain[first].scale, trained[first].scale)
    assert plain[first].relative_error == trained[first].relative_error


def test_an_interrupted_run_goes_on_where_it_was_and_ends_the_same(tmp_path):
    model = small_model("llama")
    chosen = settings(model, TRAINING)
    whole = ternarize(model, TOKENS, chosen)

    def stop(count, total, name, error):
        if count == 9:  # in the second block
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ternarize(model, TOKENS, chosen, LayerStore(tmp_path, "run"), stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 9 + 7  # what compensation has given, and the first block trained
    assert same(ternarize(model, TOKENS, chosen, LayerStore(tmp_path, "run")), whole)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path in kept} == kept
    names = set(tmp_path.iterdir())
    assert same(ternarize(model, TOKENS, chosen, LayerStore(tmp_path, "run")), whole)
    assert set(tmp_path.iterdir()) == names


def test_texts_that_fill_no_batch_are_left_out():
    model = small_model("llama")
    ten, eight = (dataclasses.replace(TRAINING, samples=TOKENS[:count], steps=3) for count in (10, 8))
    assert same(*(ternarize(model, TOKENS, settings(model, how)) for how in (ten, eight)))


def test_settings_and_text_make_the_key():
    changes = {"samples": OTHERS, "steps": 2, "learning_rate": 0.5, "batch_size": 1, "seed": 9, "narrow": True}
    keys = {dataclasses.replace(TRAINING, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {TRAINING.key}) == len(changes) + 1


def test_an_error_that_is_not_finite_is_refused():
    model = small_model("llama")
    wild = settings(model, dataclasses.replace(TRAINING, learning_rate=1e30))
    with pytest.raises(BitnetError, match="NaN or infinite"):
        ternarize(model, TOKENS, dataclasses.replace(wild, scale_dtype="float32"))
