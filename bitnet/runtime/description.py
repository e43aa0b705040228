"""What the decoder must know of a model, read from its config.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from bitnet.checkpoint import read_json
from bitnet.errors import BitnetError, first_complaint
from bitnet.runtime.rotary import Rotary

_Ends: TypeAlias = int | tuple[int, ...] | None
_ENDS: TypeAdapter[_Ends] = TypeAdapter(_Ends, config=ConfigDict(strict=True))


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
    rope_parameters: Rotary = Field(default_factory=Rotary)
    eos_token_id: _Ends = None

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
        given = filled.get("rope_parameters") or filled.get("rope_scaling") or {}
        if not isinstance(given, Mapping):
            raise ValueError("rope_parameters must be an object")
        rotary = dict(given)
        rotary.setdefault("rope_type", rotary.pop("type", "default"))
        rotary.setdefault("rope_theta", filled.get("rope_theta", 10000.0))
        rotary.setdefault("original_max_position_embeddings", filled.get("max_position_embeddings"))
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
            UnsupportedError: an architecture or option that the runtime does not have.
        """
        window, layers = config.get("sliding_window"), config.get("layer_types") or ["sliding_attention"]
        used = config.get("use_sliding_window", True) and "sliding_attention" in str(layers)
        if window is not None and used:
            raise UnsupportedError(source, f"sliding windows of {window} positions")
        try:
            return cls.model_validate(config)
        except ValidationError as error:
            raise UnsupportedError(source, first_complaint(error)) from None

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""
        return end_tokens(self.eos_token_id)


def end_tokens(value: int | Sequence[int] | None) -> frozenset[int]:
    """`eos_token_id` of a configuration as a set."""
    return frozenset(() if value is None else [value] if isinstance(value, int) else value)


def stored_ends(settings: Path) -> frozenset[int]:
    """Tokens that end a text by a generation_config.json, none where it names none.

    Raises:
        BitnetError: the file is damaged.
    """
    record = read_json(settings)
    value = record.get("eos_token_id") if isinstance(record, Mapping) else str(record)
    try:
        return end_tokens(_ENDS.validate_json(json.dumps(value)))
    except ValidationError:
        raise BitnetError(f"{settings} names no end tokens that there can be: write it again.") from None


class UnsupportedError(BitnetError):
    """A model that the runtime does not have what it takes for; transformers may. `what` is missing, in words."""

    def __init__(self, source: object, what: str) -> None:
        super().__init__(f"The runtime does not fit {source} ({what}): run this model through transformers.")
        self.what = what


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
