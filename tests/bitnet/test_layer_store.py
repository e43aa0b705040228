import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bitnet.layer_store import LayerStore, TernaryLayer
from bitnet.ternary import TernarySum


def layer():
    codes = torch.tensor([[[1, 0, -1, 1], [0, 0, 1, -1]]], dtype=torch.int8)
    weight = TernarySum(codes, torch.tensor([[[0.5], [2.0]]]), None)
    return TernaryLayer.of(weight, torch.tensor([0.1, 0.2]), 0.3)


@pytest.fixture
def kept(tmp_path):
    """The folder of a store, and the one file in it."""
    store = LayerStore(tmp_path, "run")
    assert store.get("a", 1) is None
    store.put("a", layer())
    (file,) = tmp_path.iterdir()
    return tmp_path, file


def found(folder):
    return LayerStore(folder, "run").get("a", 1)


def test_a_layer_comes_back_as_it_was_kept(kept):
    again = found(kept[0])
    assert torch.equal(again.weight.codes, layer().weight.codes)
    assert torch.equal(again.scale, layer().scale)
    assert torch.equal(again.output_error, layer().output_error)
    assert (again.group_size, again.relative_error, again.shape) == (None, 0.3, (1, 2, 4))


def test_every_flipped_bit_and_every_missing_end_is_noticed(kept):
    folder, file = kept
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        assert found(folder) is None, place
    for length in (0, 7, 100, len(content) - 1):
        file.write_bytes(content[:length])
        assert found(folder) is None, length


def test_a_file_of_another_kind_is_not_taken_for_a_layer(kept):
    folder, file = kept
    tensors = load_file(file)
    with safe_open(file, "pt") as stored:
        told = stored.metadata()
    for metadata in (None, {"layer": told["layer"]}, {**told, "layer": json.dumps({"width": 4})}):
        save_file(tensors, file, metadata=metadata)
        assert found(folder) is None
