import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from bitnet.errors import BitnetError
from bitnet.runtime import Description
from bitnet.runtime.description import rotary_frequencies

SCALINGS = [
    {"rope_type": "default", "rope_theta": 1e5},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["rope_type"])
def test_frequencies_are_those_of_transformers(scaling):
    config = LlamaConfig(hidden_size=512, num_attention_heads=4, rope_parameters=scaling)
    found = rotary_frequencies(Description.of(config.to_dict(), "config"))
    expected = LlamaRotaryEmbedding(config)
    assert expected.attention_scaling == 1.0
    torch.testing.assert_close(found, expected.inv_freq, rtol=1e-6, atol=0)


def test_older_names_and_defaults_are_understood():
    config = {
        **{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1},
        **{"num_attention_heads": 4, "vocab_size": 9, "max_position_embeddings": 16, "rms_norm_eps": 1e-5},
    }
    plain = Description.of(config, "config")
    assert (plain.head_dim, plain.num_key_value_heads, plain.rope_parameters.rope_theta) == (16, 4, 10000.0)
    assert plain.ends == frozenset()
    old = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}, "eos_token_id": 3}
    described = Description.of({**config, **old}, "config")
    assert (described.rope_parameters.rope_type, described.rope_parameters.factor) == ("linear", 2.0)
    assert described.rope_parameters.rope_theta == 5e5
    assert described.ends == frozenset([3])


def test_what_is_no_configuration_is_refused_by_name():
    with pytest.raises(BitnetError, match=r"does not fit folder/config.json"):
        Description.of({}, "folder/config.json")
