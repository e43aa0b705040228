import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, MistralConfig

from bitnet.architectures import SUPPORTED, layer_plan
from bitnet.errors import BitnetError
from tests.bitnet.small_models import ARCHITECTURES, CONFIGS, LLAMA_LIKE, model_from, small_model

LLAMA_LINEAR = [
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
]
LLAMA_NORMS = ["input_layernorm", "post_attention_layernorm"]

#: architecture -> (blocks, ternary layers of a block, preserved layers of a block, preserved layers elsewhere)
EXPECTED = {
    "llama": ("model.layers", LLAMA_LINEAR, LLAMA_NORMS, {"model.embed_tokens": "embedding", "model.norm": "norm"}),
    "qwen2": (
        "model.layers",
        LLAMA_LINEAR,
        LLAMA_NORMS,
        {"model.embed_tokens": "embedding", "model.norm": "norm", "lm_head": "head"},
    ),
    "gpt2": (
        "transformer.h",
        ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
        ["ln_1", "ln_2"],
        {"transformer.wte": "embedding", "transformer.wpe": "positional embedding", "transformer.ln_f": "norm"},
    ),
    "gpt_neox": (
        "gpt_neox.layers",
        ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
        LLAMA_NORMS,
        {"gpt_neox.embed_in": "embedding", "gpt_neox.final_layer_norm": "norm", "lm_head": "head"},
    ),
    "opt": (
        "model.decoder.layers",
        [*(f"self_attn.{name}_proj" for name in ("k", "v", "q", "out")), "fc1", "fc2"],
        ["self_attn_layer_norm", "final_layer_norm"],
        {
            "model.decoder.embed_tokens": "embedding",
            "model.decoder.embed_positions": "positional embedding",
            "model.decoder.project_in": "projection",
            "model.decoder.project_out": "projection",
            "model.decoder.final_layer_norm": "norm",
        },
    ),
}


def test_the_list_of_architectures_is_the_published_one():
    assert set(SUPPORTED) == set(EXPECTED) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_plan_is_the_published_list(architecture):
    blocks, linear, norms, elsewhere = EXPECTED[architecture]
    plan = layer_plan(small_model(architecture))
    quantized = {d.name for d in plan if d.quantized}
    preserved = {d.name: d.kind for d in plan if not d.quantized}
    assert quantized == {f"{blocks}.{i}.{name}" for i in range(2) for name in linear}
    assert preserved == {f"{blocks}.{i}.{name}": "norm" for i in range(2) for name in norms} | elsewhere
    assert all(d.reason for d in plan)
    assert {d.kind for d in plan if d.quantized} == {"conv1d" if architecture == "gpt2" else "linear"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_is_listed_exactly_once(architecture, tied):
    config = CONFIGS[architecture]()
    config.tie_word_embeddings = tied
    model = model_from(config)
    plan = layer_plan(model)
    assert len({d.name for d in plan}) == len(plan)
    assert sum(d.parameters for d in plan) == sum(p.numel() for p in model.parameters())
    assert ("lm_head" in {d.name for d in plan}) is not tied
    assert any("shared with the output head" in d.reason for d in plan) is tied


def test_an_unknown_architecture_is_named():
    model = AutoModelForCausalLM.from_config(MistralConfig(**LLAMA_LIKE))
    with pytest.raises(BitnetError, match="'mistral' are not supported; the supported types are llama, qwen2"):
        layer_plan(model)


def test_a_layer_inside_a_block_that_is_neither_linear_nor_norm_is_named():
    model = small_model("llama")
    model.model.layers[1].mlp.gate = nn.Conv1d(4, 4, 1)
    with pytest.raises(BitnetError, match=r"'model\.layers\.1\.mlp\.gate' is of type Conv1d"):
        layer_plan(model)


def test_a_norm_by_name_that_owns_a_matrix_is_no_norm():
    class ProjectingRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

    model = small_model("llama")
    model.model.layers[0].extra = ProjectingRMSNorm()
    with pytest.raises(BitnetError, match="ProjectingRMSNorm"):
        layer_plan(model)


def test_a_layer_outside_the_blocks_that_no_rule_covers_is_named():
    model = small_model("gpt2")
    model.transformer.adapter = nn.Conv1d(4, 4, 1)
    with pytest.raises(BitnetError, match=r"'transformer\.adapter' is of type Conv1d, which no rule covers"):
        layer_plan(model)
