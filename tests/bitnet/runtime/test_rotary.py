import numpy as np
import pytest
from pydantic import ValidationError
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from bitnet.runtime.rotary import Rotary

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768}
SCALINGS = {
    "default": {"rope_type": "default", "rope_theta": 1e5},
    "linear": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    "llama3": {**LLAMA3, "rope_theta": 5e5, "original_max_position_embeddings": 8192},
    "yarn": YARN,
    "yarn, all settings": {**YARN, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False, "attention_factor": 1.3},
    "yarn, as DeepSeek": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.8},
    "yarn, a step": {**YARN, "beta_fast": 2.0, "beta_slow": 2.0, "truncate": False},
    "yarn, no stretch": {**YARN, "factor": 1.0},
}


@pytest.mark.parametrize("width", [64, 82, 128])
@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_and_scale_are_those_of_transformers(name, width):
    config = LlamaConfig(head_dim=width, max_position_embeddings=131072, rope_parameters=SCALINGS[name])
    found, expected = Rotary(**SCALINGS[name]), LlamaRotaryEmbedding(config)
    assert found.frequencies(width).dtype == np.float32
    np.testing.assert_allclose(found.frequencies(width), expected.inv_freq.numpy(), rtol=1e-6, atol=0)
    assert found.scale == pytest.approx(expected.attention_scaling, rel=1e-12)


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "proportional"])
def test_angles_that_depend_on_the_length_of_the_text_are_refused(kind):
    with pytest.raises(ValidationError, match="rope_type"):
        Rotary(rope_type=kind)


def test_a_blend_without_width_is_refused():
    with pytest.raises(ValidationError, match="low_freq_factor must be below"):
        Rotary(**{**LLAMA3, "low_freq_factor": 4.0})
