import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from harness.errors import AuditError
from harness.oracles.architecture import block_projections, decoder_blocks, matrix, parameter_carriers
from suites.small_architectures import small_model

BLOCKS = {
    "llama": ("model.layers", 7),
    "qwen2": ("model.layers", 7),
    "gpt2": ("transformer.h", 4),
    "gpt_neox": ("gpt_neox.layers", 4),
    "opt": ("model.decoder.layers", 6),
}


@pytest.mark.parametrize("architecture", BLOCKS)
def test_projections_are_the_linear_maps_of_the_blocks(architecture):
    model, (blocks, projections) = small_model(architecture, tied=True), BLOCKS[architecture]
    assert decoder_blocks(model) == blocks
    found = block_projections(model)
    assert len(found) == 2 * projections
    assert all(name.startswith(f"{blocks}.") for name in found)


def test_what_stands_outside_the_blocks_is_no_block_projection():
    names = block_projections(small_model("opt", tied=False))
    assert not any("project_" in name or "lm_head" in name for name in names)


def test_a_model_without_blocks_is_an_error():
    model = small_model("llama", tied=True)
    model.config.num_hidden_layers = 5
    with pytest.raises(AuditError, match="0 lists of decoder blocks"):
        decoder_blocks(model)


def test_lists_inside_a_block_are_not_the_blocks():
    model = small_model("llama", tied=True)
    model.model.layers[0].experts = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    assert decoder_blocks(model) == "model.layers"


def test_a_tied_head_carries_its_embeddings_parameter():
    carriers = parameter_carriers(small_model("llama", tied=True))
    assert carriers["lm_head"][0] is carriers["model.embed_tokens"][0]
    assert "model" not in carriers


def test_matrices_are_out_by_in():
    assert matrix(nn.Linear(3, 5)).shape == (5, 3)
    layer = Conv1D(5, 3)
    assert torch.equal(matrix(layer), layer.weight.T)
