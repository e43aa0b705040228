"""Phase 4 settings: validated, frozen, and adapted to the size of the model."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitnet.errors import BitnetError, shortened
from bitnet.reading import read_small
from bitnet.settings_yaml import LARGEST, dump_yaml, parse_yaml
from bitnet.size_settings import (
    COMPENSATED,
    OPERATIONS_PER_MINUTE,
    PLANES,
    PLANES_BEFORE_FALLBACKS,
    RECIPES,
    SIZE_TABLE,
    WITHIN_MINUTES,
    size_class,
)

Rule = Literal["threshold", "absmean", "optimal"]
Granularity = Literal["tensor", "channel", "group"]
Codec = Literal["int8", "2bit", "base3"]
ScaleDtype = Literal["float16", "float32", "uint8"]
TableDtype = Literal["float32", "float16", "int8", "int6"]
Compensation = Literal["none", "sequential"]
RecoveryMode = Literal["weights", "scales", "last_mile"]
RecoveryRecipe = Literal["measured", "audit"]

_Count = Annotated[int, Field(ge=1)]
_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
_File = Annotated[Path, Field(strict=False)]


class Phase4Config(BaseModel):
    """Every setting of Phase 4; `None` in a size-adaptive field means "take it from `size_settings.SIZE_TABLE`".

    Values are checked strictly (no text for numbers, no booleans for counts); `model_fields_set` holds
    the names that the user gave.

    Raises:
        BitnetError: naming the key, the value and what is allowed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    quantization_bits: Annotated[float, Field(ge=1.58, le=1.58)] = 1.58
    """Information in one ternary weight: log2(3), rounded."""
    rule: Rule = "optimal"
    """How a weight becomes -1, 0 or +1; `optimal` minimises the error weighted by calibration."""
    granularity: Granularity = "channel"
    """The weights that share one scale: a matrix, an output channel, or a group of its input features."""
    group_size: _Count = 128
    """Input features that share a scale; used by granularity "group" only."""
    compensation: Compensation = "none"
    """What makes up for the error of rounding: nothing, or, column by column, the weights that are rounded later.

    With "sequential" scales and codes are fitted together, and `rule` has no say.
    """
    compensation_source: Literal["model", "text", "both"] = "model"
    """What compensation reads where no calibration_text is given: text that the model writes, the default text, or half
    of each."""
    compensation_samples: _Count = 16
    """Texts that compensation reads."""
    compensation_tokens: Annotated[int, Field(ge=8)] = 384
    """Tokens in each of them."""
    smoothing: _Fraction = 0.0
    """How far compensation first makes the features that int8 rounds alike, as a power of their size; 0 leaves them.

    Scales move from norms and up-projections into the matrices behind them, and the model computes the same.
    """
    reconstruction_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which each decoder block's ternary layers are trained together after compensation; 0 trains none."""
    reconstruction_samples: _Count = 48
    """Windows of the calibration text that blocks are trained on, beside the texts that compensation reads."""
    reconstruction_lr: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Learning rate of that training after its warm-up."""
    reconstruction_batch_size: _Count = 2
    """Texts in each of its steps."""
    sparsity_threshold: _Fraction | None = None
    """tau, in units of mean|W|, for rules without compensation; None takes 0.05 to 0.20 by the model's size."""
    compression_target: Annotated[float, Field(ge=1.0)] | None = None
    """Smallest FP32 bytes / packed bytes of the whole model that passes; None takes 6 to 12 by the model's size."""
    planes: Annotated[int, Field(ge=1, le=3)] = 1
    """Ternary matrices that a weight is the sum of, each with scales of its own."""
    starting_bits: Annotated[float, Field(ge=1.6, le=16.0)] | None = None
    """Bits for a quantized weight that compensation begins with; they go to the layers where planes promise most.

    None gives every layer `planes`, which no layer goes below in any case; above 50 million parameters, where
    `max_minutes` are given and no planes, it takes 3.25.
    """
    bits_budget: Annotated[float, Field(ge=1.6, le=16.0)] | None = 6.0
    """Most bits for a quantized weight, scales included, that the fallback chain may spend on further planes.

    None adds none.
    """
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes after which the fallback chain takes no further step; None switches it off.

    Above 50 million parameters recovery's `fine_tune_budget` goes by them as well, and what else is left open is chosen
    for few bits (`size_settings.WITHIN_MINUTES`).
    """
    codec: Codec = "2bit"
    """How codes are stored: in 8, 2 or 1.6 bits."""
    scale_dtype: ScaleDtype = "float16"
    """How scales are stored; "uint8" in units of a power of two that an output channel's groups share.

    In all but float32 the FP16 model holds the very weights of the packed one.
    """
    embedding_dtype: TableDtype = "float16"
    """How the packed model stores embeddings and head; compensation makes up for what "int6" rounds off the head."""
    activation_bits: Literal[8] | None = 8
    """Bits of the activations that enter a ternary layer; None keeps them in floating point."""

    calibration_samples: _Count = 1000
    """Samples that are drawn from the calibration text."""
    calibration_tokens: Annotated[int, Field(ge=2)] = 128
    """Tokens in each sample."""
    calibration_text: _File | None = None
    """UTF-8 text for calibration and recovery; None takes Python's language reference."""
    evaluation_text: _File | None = None
    """UTF-8 text that quality is measured on; None takes another part of Python's language reference."""
    context_length: Annotated[int, Field(ge=2)] = 512
    """Tokens in an evaluation window."""
    evaluation_tokens: _Count | None = None
    """Upper bound on scored tokens; None scores the whole text."""
    batch_size: _Count = 4
    """Windows or samples that the model reads at once."""
    streaming: Literal["auto", "always", "never"] = "auto"
    """Whether weights stay on disk but for the layer at work: "auto" where the model would not fit into memory.

    A streamed model is compressed by a rule alone, without compensation and recovery.
    """

    max_accuracy_drop: _Fraction = 0.10
    """Largest relative perplexity increase, and relative drop of next-token accuracy, that passes."""
    fine_tune_trigger: Annotated[float, Field(ge=0.0)] = 0.05
    """Relative perplexity increase above which recovery starts."""
    recovery_recipe: RecoveryRecipe = "measured"
    """Where open settings of recovery come from: `size_settings.RECIPES`; "audit" keeps the audit's own parameters."""
    fine_tune_lr: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-5
    """Learning rate of recovery after the warm-up."""
    fine_tune_optimizer: Literal["mugrokfast", "adamw"] = "mugrokfast"
    """What updates the hidden matrices: Muon, or AdamW as for everything else; both see filtered gradients."""
    fine_tune_mode: RecoveryMode = "weights"
    """What recovery trains: everything, the scales alone, or all but the latent weights behind the codes."""
    grokfast_lambda: Annotated[float, Field(ge=0.0)] = 2.0
    """Weight of the slow part of the gradients that recovery adds to each gradient."""
    grokfast_alpha: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98
    """Decay of the moving average that holds the slow part."""
    fine_tune_steps: Annotated[int, Field(ge=0)] = 100
    """Upper bound on the steps of recovery; 0 switches it off."""
    fine_tune_tokens: Annotated[int, Field(ge=2)] = 128
    """Tokens in each sample that recovery trains on; a text that is shorter gives the samples of calibration."""
    fine_tune_batch_size: _Count = 4
    """Samples in each step of recovery; gradients are accumulated over batches of `batch_size`."""
    fine_tune_decay: _Fraction = 0.0
    """Share of the steps, the last ones, over which the learning rate falls to 0."""
    fine_tune_dropout: bool = False
    """Whether the model's own dropout is on in recovery."""
    fine_tune_dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    """What recovery computes in; "auto" is bfloat16 where the processor has instructions for it."""
    fine_tune_patience: _Count | None = None
    """Evaluations without improvement that end recovery; None goes on, since gains come as the rate falls."""
    distillation: _Fraction = 0.0
    """Share of the divergence from the full-precision model in the loss; the rest is cross-entropy with the text."""
    hidden_distillation: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the distance between hidden states, added to the loss."""
    gradual_quantization: _Fraction = 0.0
    """Share of the steps, the first ones, over which weights go from latent to quantized."""
    checkpoint_steps: _Count = 50
    """Steps of recovery after which a checkpoint is written, from which an interrupted run goes on."""
    fine_tune_budget: Annotated[float, Field(gt=0.0)] | None = 2.5e13
    """Upper bound on the floating-point operations of recovery, which shortens it for large models; None sets none.

    Operations are counted and not timed, so that every machine takes the same steps.
    """
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    """Steps in which the learning rate rises from 0."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of every random choice."""
    tracking: Literal["none", "offline", "online"] = "none"
    """Whether the metrics go to Weights & Biases: not at all, into the output folder, or to the server as well."""
    registry: Annotated[str, Field(min_length=1)] | None = None
    """Name under which the output is put into the model registry; None does not."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise BitnetError(_one_sentence(error)) from None

    def resolved(self, parameters: int) -> Self:
        """Copy in which fields left open (None) carry the values of the size class.

        Args:
            parameters: unique parameters of the model. A value that the user gave is never overwritten.
        """
        row = SIZE_TABLE[size_class(parameters)]
        values = dict(self)
        if self.recovery_recipe == "measured":
            recipe = RECIPES[size_class(parameters)]
            values |= {name: value for name, value in recipe.items() if name not in self.model_fields_set}
        if size_class(parameters) != "tiny" and "rule" not in self.model_fields_set:
            lower = self.max_minutes is not None or self.starting_bits is not None
            planes = PLANES_BEFORE_FALLBACKS if lower else PLANES
            chosen = {**COMPENSATED, "planes": planes}
            values |= {name: value for name, value in chosen.items() if name not in self.model_fields_set}
            values |= self._within_minutes()
        for name in ("sparsity_threshold", "compression_target"):
            if values[name] is None:
                values[name] = getattr(row, name)
        return type(self).model_construct(_fields_set=set(self.model_fields_set), **values)

    def _within_minutes(self) -> dict[str, Any]:
        """What `max_minutes` decides where the user did not."""
        if self.max_minutes is None:
            return {}
        left = set(self.model_fields_set)
        if "planes" in left:
            left.add("starting_bits")
        if self.recovery_recipe != "measured":
            left |= {name for name in WITHIN_MINUTES if name.startswith("fine_tune")}
        chosen = {**WITHIN_MINUTES, "fine_tune_budget": OPERATIONS_PER_MINUTE * self.max_minutes}
        return {name: value for name, value in chosen.items() if name not in left}

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Settings from a YAML file with one flat mapping of key: value (an empty file gives the defaults).

        Raises:
            BitnetError: if the file cannot be read, is not such a mapping, or holds a bad key or value.
        """
        try:
            text = read_small(Path(path), LARGEST)
        except BitnetError as error:
            raise BitnetError(f"the configuration {path} cannot be read: {error}") from None
        loaded = parse_yaml(text, f"the configuration {path}")
        if loaded is None:
            return cls()
        if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
            raise BitnetError(f"the configuration {path} is not a mapping; write one `key: value` a line.")
        return cls(**loaded)

    def to_yaml(self) -> str:
        """The settings as YAML text that `from_yaml` reads back to an equal configuration.

        Settings that are left to the model's size are left out, as a value in a file is one that the user gave.
        """
        recipes = {name for recipe in RECIPES.values() for name in recipe}
        left_open = {"rule", "planes", "fine_tune_budget", *COMPENSATED, *WITHIN_MINUTES, *recipes}
        return dump_yaml(self.model_dump(mode="json", exclude=left_open - self.model_fields_set))

    def overrides(self) -> list[str]:
        """The settings that the user gave, by name, as `with_overrides` reads them."""
        values = self.model_dump(mode="json")
        return [f"{name}={dump_yaml([values[name]])[2:].strip()}" for name in sorted(self.model_fields_set)]

    def with_overrides(self, overrides: Sequence[str]) -> Self:
        """Copy with `key=value` settings applied in order; values are YAML scalars (`null` re-opens a field).

        Raises:
            BitnetError: naming the first bad setting and what is allowed.
        """
        given: dict[str, Any] = {}
        for override in overrides:
            key, separator, value = override.partition("=")
            if not separator or not key.strip():
                raise BitnetError(
                    f"the setting '{shortened(override)}' is not of the form key=value, such as codec=base3."
                )
            given[key.strip()] = parse_yaml(value, f"the value of '{shortened(key.strip())}'")
        checked = type(self)(**{**dict(self), **given})
        return type(self).model_construct(_fields_set=self.model_fields_set | given.keys(), **dict(checked))


#: Complaints that a sentence has at most.
_TOLD = 5


def _one_sentence(error: ValidationError) -> str:
    """All complaints of pydantic as one sentence: key, value, what is allowed."""
    complaints: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        key = str(detail["loc"][0])
        if detail["type"] == "extra_forbidden":
            told = shortened(key)
            nearest = difflib.get_close_matches(told, Phase4Config.model_fields, n=1, cutoff=0.0)[0]
            complaints[told] = f"unknown setting '{told}', the nearest is '{nearest}'"
        else:
            # A union complains once per member; the first complaint carries the value.
            given = shortened(repr(detail["input"]))
            complaints.setdefault(key, f"{key} = {given} is not allowed, it takes {allowed_values(key)}")
        if len(complaints) == _TOLD:
            break
    return "; ".join(complaints.values()) + "."


def allowed_values(key: str) -> str:
    """What the setting `key` may be, in words, derived from its declared type and bounds."""
    schema = Phase4Config.model_json_schema()["properties"][key]
    return " or ".join(_describe(option) for option in schema.get("anyOf", [schema]))


def _describe(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema["type"] == "string":
        return "the path of a file" if schema.get("format") == "path" else "a text"
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "null":
        return "null"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and low == high:
        return f"{low}"
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    bounds = " ".join(f"{word} {schema[name]}" for name, word in words.items() if name in schema)
    return f"{'a whole number' if schema['type'] == 'integer' else 'a number'} {bounds}"
