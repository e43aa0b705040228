import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from bitnet.artifacts import load_packed
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.export import export
from bitnet.export.gguf_file import ROTARY_TENSOR
from bitnet.huggingface import load_gguf
from tests.bitnet.small_models import LLAMA_LIKE, model_from, packed_model

TOKENS = torch.randint(2, 288, (2, 24), generator=torch.Generator().manual_seed(0))
WIDE = {**LLAMA_LIKE, "hidden_size": 256, "intermediate_size": 288, "num_hidden_layers": 1}


def packed_config(config, **settings):
    return CompressedModel.from_model(
        model_from(config), Phase4Config(**{"rule": "absmean", **settings}).resolved(1000)
    ).packed()


def types_of(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("llama", {}),
        ("qwen2", {"embedding_dtype": "int8"}),
        ("qwen2", {"embedding_dtype": "int6"}),
        ("llama", {"planes": 2, "granularity": "group", "group_size": 16}),
        ("llama", {"granularity": "tensor", "rule": "absmean", "embedding_dtype": "float32"}),
    ],
)
def test_transformers_reads_the_packed_weights_from_the_file(pack, tmp_path, architecture, settings):
    """Through transformers' own reader of GGUF files, which undoes the order of rows."""
    packed = pack(architecture, **settings)
    written = export(packed, tmp_path / "model.gguf", "gguf")
    ours, (theirs, tokenizer) = load_packed(packed)[0], load_gguf(written.path)
    for name, parameter in theirs.named_parameters():
        layer = ours.layers.get(name.rpartition(".")[0])
        expected = layer.weight if layer and name.endswith("weight") else getattr(*parent(ours.model, name))
        assert torch.equal(parameter, expected), name
    with torch.no_grad(), ours.activations(None):
        torch.testing.assert_close(theirs(TOKENS).logits, ours.model(TOKENS).logits)
    assert tokenizer.encode("the cat sat") == load_packed(packed)[1].encode("the cat sat")
    assert written.bytes == written.path.stat().st_size
    assert sum(written.matrices.values()) == len(ours.layers)


def parent(model, name):
    module, _, key = name.rpartition(".")
    return model.get_submodule(module), key


@pytest.mark.parametrize(
    ("wanted", "settings", "expected"),
    [
        ("tq2_0", {}, ("TQ2_0", "Q4_0")),
        ("tq1_0", {}, ("TQ1_0", "Q4_0")),
        ("f16", {}, ("F16", "F16")),
        ("tq2_0", {"granularity": "group", "group_size": 32}, ("Q4_0", "Q4_0")),
        ("tq2_0", {"granularity": "group", "group_size": 16}, ("F16", "F16")),
        ("tq2_0", {"planes": 2}, ("F16", "F16")),
    ],
)
def test_a_layer_gets_the_narrowest_type_that_holds_it(pack, tmp_path, wanted, settings, expected):
    compressed = packed_config(LlamaConfig(**WIDE), **settings)
    written = export(pack(model=compressed), tmp_path / "model.gguf", "gguf", wanted)
    types = types_of(written.path)
    assert (types["blk.0.attn_q.weight"], types["blk.0.ffn_down.weight"]) == expected
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(written.path).tensors}["blk.0.ffn_down.weight"]
    decoded = gguf.quants.dequantize(stored.data, stored.tensor_type)
    assert np.array_equal(decoded, compressed.layers["model.layers.0.mlp.down_proj"].weight.numpy())
    assert any("sums of ternary planes" in note for note in written.notes) == ("planes" in settings)


@pytest.mark.parametrize("dtype", ["int8", "int6"])
def test_tables_in_codes_are_q8_0_but_in_a_file_of_f16(pack, tmp_path, dtype):
    packed = pack(embedding_dtype=dtype)
    assert types_of(export(packed, tmp_path / "a.gguf", "gguf").path)["token_embd.weight"] == "Q8_0"
    assert types_of(export(packed, tmp_path / "b.gguf", "gguf", "f16").path)["token_embd.weight"] == "F32"


def test_the_file_says_what_llama_cpp_asks_for(pack, tmp_path):
    fields = gguf.GGUFReader(export(pack(), tmp_path / "model.gguf", "gguf").path).fields
    values = {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF")}
    assert values["general.architecture"] == "llama"
    assert (values["llama.block_count"], values["llama.attention.head_count_kv"]) == (2, 2)
    assert values["llama.rope.freq_base"] == 10000.0
    assert (values["tokenizer.ggml.model"], values["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert values["tokenizer.ggml.tokens"][:2] == ["<s>", "</s>"]
    assert values["tokenizer.ggml.token_type"][:3] == [3, 3, 1]
    assert values["tokenizer.ggml.add_bos_token"] is False


def test_stretched_rotary_embeddings_become_factors(pack, tmp_path):
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    compressed = packed_config(LlamaConfig(**LLAMA_LIKE, rope_parameters=rope))
    written = export(pack(model=compressed), tmp_path / "model.gguf", "gguf")
    (factors,) = (tensor for tensor in gguf.GGUFReader(written.path).tensors if tensor.name == ROTARY_TENSOR)
    np.testing.assert_allclose(factors.data, 4.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        (LlamaConfig(**LLAMA_LIKE), {"scale_dtype": "float32"}, "scale_dtype=float16"),
        (
            Qwen2Config(**LLAMA_LIKE, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}),
            {},
            "rotary embeddings of the type linear in qwen2",
        ),
    ],
)
def test_what_llama_cpp_would_not_run_as_we_do_is_refused(pack, tmp_path, config, settings, words):
    packed = pack(model=packed_config(config, **settings))
    with pytest.raises(BitnetError, match=words):
        export(packed, tmp_path / "model.gguf", "gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_another_architecture_is_refused(pack, tmp_path):
    with pytest.raises(BitnetError, match=r"cannot be written as GGUF .*: export it as huggingface"):
        export(pack(model=packed_model("gpt2")), tmp_path / "model.gguf", "gguf")
