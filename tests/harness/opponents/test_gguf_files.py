import gguf
import numpy as np
import pytest
import torch

from harness.errors import AuditError
from harness.opponents.gguf_files import tq2_bytes, write_float16, write_ternary
from harness.opponents.products import dense
from harness.opponents.weights import AbsmeanWeights, RandomWeights
from harness.subject import QuantizedWeight
from suites.small_models import random_llama

CONFIG = {
    "vocab_size": 32,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}


def read(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("rows", [1, 2])
def test_tq2_bytes_are_those_of_the_gguf_package(rows):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-1, 2, (rows, 512), dtype=torch.int8, generator=generator)
    for scale in (torch.tensor([[0.5]]), torch.rand(rows, 1, generator=generator).half().float()):
        weight = QuantizedWeight(codes, scale)
        expected = gguf.quants.quantize(dense(weight).numpy(), gguf.GGMLQuantizationType.TQ2_0)
        np.testing.assert_array_equal(tq2_bytes(weight), expected)


@pytest.mark.parametrize(("width", "groups"), [(255, 1), (512, 2)])
def test_a_weight_that_tq2_cannot_hold_is_refused(width, groups):
    weight = QuantizedWeight(torch.zeros(1, width, dtype=torch.int8), torch.ones(1, groups))
    with pytest.raises(AuditError, match="does not fit TQ2_0"):
        tq2_bytes(weight)


def test_a_model_in_float16_holds_the_weights_in_llama_cpps_order(tmp_path):
    model = random_llama()
    write_float16(model.config.to_dict(), AbsmeanWeights(model).original, tmp_path / "model.gguf")
    tensors = read(tmp_path / "model.gguf")
    down = model.model.layers[1].mlp.down_proj.weight.detach()
    assert torch.equal(torch.tensor(tensors["blk.1.ffn_down.weight"].data), down.half())
    query = model.model.layers[0].self_attn.q_proj.weight.detach().half()  # two heads of 16 rows
    stored = torch.tensor(tensors["blk.0.attn_q.weight"].data)
    assert torch.equal(stored[0:16:2], query[0:8])
    assert torch.equal(stored[1:16:2], query[8:16])
    assert torch.equal(stored[16:32:2], query[16:24])
    assert tensors["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    assert "output.weight" not in tensors  # the head is tied


def test_a_ternary_model_holds_the_codes_that_it_was_given(tmp_path):
    write_ternary(CONFIG, RandomWeights(), tmp_path / "model.gguf")
    tensors = read(tmp_path / "model.gguf")
    assert len(tensors) == 12
    given = RandomWeights().ternary("model.layers.0.mlp.up_proj", (256, 256))
    up = tensors["blk.0.ffn_up.weight"]
    assert up.tensor_type == gguf.GGMLQuantizationType.TQ2_0
    restored = gguf.quants.dequantize(up.data, up.tensor_type)
    np.testing.assert_array_equal(restored, dense(given).numpy())
    assert tensors["output.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0


def test_another_family_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.LlamaConfig.model_type", "mistral")
    with pytest.raises(AuditError, match="one of the Llama family"):
        write_float16(CONFIG, torch.zeros, tmp_path / "model.gguf")
