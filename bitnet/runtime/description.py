"""What the decoder must know of a model, read from its config.json, and the rotary frequencies that follow from it."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator
from torch import Tensor

from bitnet.errors import BitnetError, first_complaint


class RotaryScaling(BaseModel):
    """`rope_parameters` of config.json: "default", "linear" and "llama3" (Llama 3.1) positions."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rope_type: Literal["default", "linear", "llama3"] = "default"
    rope_theta: PositiveFloat = 10000.0
    factor: PositiveFloat = 1.0
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt = 8192
    partial_rotary_factor: Annotated[float, Field(ge=1.0, le=1.0)] = 1.0


class Description(BaseModel):
    """The part of config.json that a decoder follows; names are transformers'."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: Literal["llama", "qwen2"]
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    vocab_size: PositiveInt
    max_position_embeddings: PositiveInt
    rms_norm_eps: PositiveFloat
    hidden_act: Literal["silu"] = "silu"
    tie_word_embeddings: bool = False
    rope_parameters: RotaryScaling = Field(default_factory=RotaryScaling)
    eos_token_id: int | tuple[int, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Defaults of transformers that depend on other entries, and its older names."""
        if not isinstance(data, Mapping):
            return data
        filled = {name: value for name, value in data.items() if value is not None}
        heads, hidden = filled.get("num_attention_heads"), filled.get("hidden_size")
        filled.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            filled.setdefault("head_dim", hidden // heads)
        rotary = dict(filled.get("rope_parameters") or filled.get("rope_scaling") or {})
        rotary.setdefault("rope_type", rotary.pop("type", "default"))
        rotary.setdefault("rope_theta", filled.get("rope_theta", 10000.0))
        filled["rope_parameters"] = rotary
        return filled

    @model_validator(mode="after")
    def _check(self) -> "Description":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_key_value_heads must divide num_attention_heads")
        if self.head_dim % 2:
            raise ValueError("head_dim must be even")
        return self

    @classmethod
    def of(cls, config: Mapping[str, Any], source: str) -> "Description":
        """The description in a parsed config.json; `source` names it in errors.

        Raises:
            BitnetError: an architecture or option that the runtime does not have.
        """
        window = config.get("sliding_window")
        if window is not None and config.get("use_sliding_window", True):
            raise _refusal(source, f"sliding windows of {window} positions")
        try:
            return cls.model_validate(config)
        except ValidationError as error:
            raise _refusal(source, first_complaint(error)) from None

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""
        if self.eos_token_id is None:
            return frozenset()
        return frozenset([self.eos_token_id] if isinstance(self.eos_token_id, int) else self.eos_token_id)


def _refusal(source: str, what: str) -> BitnetError:
    return BitnetError(f"The runtime does not fit {source} ({what}): run this model through transformers.")


class Layer(NamedTuple):
    """Names of a layer's tensors in the file."""

    input_norm: str
    post_norm: str
    linears: tuple[str, ...]
    """query, key, value, output, gate, up, down"""


def layer_names(index: int) -> Layer:
    """Names of decoder layer `index`, as Llama and Qwen2 share them."""
    prefix = f"model.layers.{index}"
    attention = (f"{prefix}.self_attn.{name}_proj" for name in "qkvo")
    feed_forward = (f"{prefix}.mlp.{name}_proj" for name in ("gate", "up", "down"))
    return Layer(
        f"{prefix}.input_layernorm.weight",
        f"{prefix}.post_attention_layernorm.weight",
        (*attention, *feed_forward),
    )


def rotary_frequencies(description: Description) -> Float32[Tensor, "half"]:
    """Angle per position of each pair of a head, theta^(-2i / head_dim), scaled as the configuration says.

    Source of "llama3": Meta's Llama 3.1 reference code: wavelengths above original / low_freq_factor are stretched by
    `factor`, those below original / high_freq_factor are kept, and those between are blended.
    """
    rotary = description.rope_parameters
    exponents = torch.arange(0, description.head_dim, 2, dtype=torch.int64).float() / description.head_dim
    frequencies = 1.0 / (rotary.rope_theta**exponents)
    if rotary.rope_type == "default":
        return frequencies
    if rotary.rope_type == "linear":
        return frequencies / rotary.factor
    wavelengths = 2 * math.pi / frequencies
    ratio = rotary.original_max_position_embeddings / wavelengths
    kept = ((ratio - rotary.low_freq_factor) / (rotary.high_freq_factor - rotary.low_freq_factor)).clamp(0.0, 1.0)
    return (1 - kept) * frequencies / rotary.factor + kept * frequencies
