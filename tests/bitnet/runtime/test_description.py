import pytest
from transformers import Qwen2Config

from bitnet.errors import BitnetError
from bitnet.runtime import Description
from bitnet.runtime.description import stored_ends


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


def test_a_sliding_window_is_refused_where_a_layer_uses_it():
    shape = {"num_hidden_layers": 3, "sliding_window": 16}
    switched_off = Qwen2Config(**shape, use_sliding_window=False).to_dict()
    unused = Qwen2Config(**shape, use_sliding_window=True, max_window_layers=3).to_dict()
    used = Qwen2Config(**shape, use_sliding_window=True, max_window_layers=2).to_dict()
    assert all(Description.of(config, "config").num_hidden_layers == 3 for config in (switched_off, unused))
    with pytest.raises(BitnetError, match=r"does not fit folder \(sliding windows of 16 positions\)"):
        Description.of(used, "folder")


def test_what_is_no_configuration_is_refused_by_name():
    with pytest.raises(BitnetError, match=r"does not fit folder/config.json"):
        Description.of({}, "folder/config.json")
    for damaged in ({"rope_parameters": -1}, {"sliding_window": 3, "layer_types": 7}):
        with pytest.raises(BitnetError, match=r"does not fit folder/config.json"):
            Description.of(damaged, "folder/config.json")


def test_end_tokens_of_a_generation_config_are_numbers(tmp_path):
    path = tmp_path / "generation_config.json"
    for text, ends in (('{"eos_token_id": 3}', {3}), ('{"eos_token_id": [3, 4]}', {3, 4}), ("{}", set())):
        path.write_text(text)
        assert stored_ends(path) == ends
    for text in ("[]", '{"eos_token_id": "x"}', '{"eos_token_id": {}}'):
        path.write_text(text)
        with pytest.raises(BitnetError, match="names no end tokens"):
            stored_ends(path)
