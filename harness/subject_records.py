"""What passes between the auditor and a subject: plain frozen records, given to its operations or returned by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from jaxtyping import Float, Int8
    from torch import Tensor

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
TieRule = Literal["half_even", "half_up", "away_from_zero", "strictly_greater", "at_least"]


# --------------------------------------------------------------------------- what a subject declares


@dataclass(frozen=True)
class WeightVariant:
    """One way in which a subject turns a weight into ternary codes and scales.

    `tau` times mean(abs(weight)) is the threshold at or below which a code is 0 (its floor, for rules that search);
    None where the rule has no such number. `tie_rule` says what happens exactly on the boundary between 0 and 1:
    a rounding rule (half_even, half_up, away_from_zero) or a comparison (strictly_greater: the tie gives 0;
    at_least: the tie gives 1). `second_moment` says that the variant takes the inputs' E[x^2] into account.
    """

    rule: str
    granularity: Literal["tensor", "channel", "group"]
    group_size: int | None
    tau: float | None
    tie_rule: TieRule
    scale_rule: Literal["absmean", "least_squares"]
    second_moment: bool

    @property
    def id(self) -> str:
        """A short name for test ids and tables, such as `threshold-channel` or `absmean-group128`."""
        return f"{self.rule}-{self.granularity}{self.group_size or ''}"


@dataclass(frozen=True)
class Declaration:
    """What a subject says about itself; the suites hold it to this.

    `activation_range` is the closed range of activation codes (None: activations stay floating point);
    `source_root` is the directory of its Python sources, for the checks of code quality (None: not offered).
    `audit_settings` are the settings, if any, under which its defaults for training are those of the audit, where its
    own follow what it has measured.
    """

    name: str
    version: str
    variants: tuple[WeightVariant, ...] = ()
    codecs: tuple[str, ...] = ()
    ste: Literal["identity", "clipped"] = "identity"
    scale_convention: Literal["multiply", "divide"] = "multiply"
    activation_range: tuple[int, int] | None = None
    source_root: Path | None = None
    audit_settings: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerRecipe:
    """The constants of a subject's optimizer; lengths of updates are in units of the learning rate.

    `momentum` is that of the orthogonalised (Muon) update, whose scale for an [out, in] matrix is
    0.2 sqrt(max(out, in)) ("match_rms_adamw") or sqrt(max(1, out / in)) ("original"). `betas` and `eps` are AdamW's;
    weight decay is decoupled. `qk_clip` is the largest root mean square of the update of one head's rows of a query or
    key projection (None: these updates are not clipped).
    """

    momentum: float
    update_scale: Literal["match_rms_adamw", "original"]
    betas: tuple[float, float]
    eps: float
    qk_clip: float | None


# --------------------------------------------------------------------------- what its operations return


@dataclass(frozen=True)
class QuantizedWeight:
    """Ternary codes with their scales: (1, 1) per tensor, (out, 1) per channel, (out, ceil(in/group)) per group.

    `group_size` counts the input features that share a scale; None where no row has more than one. A matrix that is the
    sum of several ternary planes has the others in `further`.
    """

    codes: Int8[Tensor, "out in"]
    scale: Float[Tensor, "rows groups"]
    group_size: int | None = None
    further: tuple[QuantizedWeight, ...] = ()

    @property
    def planes(self) -> tuple[QuantizedWeight, ...]:
        """Every plane, this one first."""
        return (self, *self.further)


@dataclass(frozen=True)
class PerplexityFigures:
    """Perplexity over a set of documents; log-likelihoods are natural logarithms, one per document, in order."""

    tokens: int
    words: int
    bytes: int
    loglikelihoods: tuple[float, ...]
    token_perplexity: float
    word_perplexity: float
    byte_perplexity: float
    bits_per_byte: float
    next_token_accuracy: float


@dataclass(frozen=True)
class CompressionReport:
    """What a subject itself says of a compression; the suites hold it to what the files hold.

    `parameters` are unique ones; `packed_bytes` all that is needed to reload; `compression_ratio` FP32 bytes over them.
    Perplexities are per token, of the full-precision model and of the packed artefact as written, on the evaluation
    text in windows of `context_length`. `gradient_failures` are the layers that its gradient-flow test found wrong.
    """

    parameters: int
    packed_bytes: int
    compression_ratio: float
    zero_fraction: float
    quantized_layers: tuple[str, ...]
    context_length: int
    perplexity_before: float
    perplexity_after: float
    gradient_failures: tuple[str, ...]


@dataclass(frozen=True)
class CompressionOutcome:
    """The two artefacts of a compression and the result that the subject recorded (JSON values).

    `report` is that result in the auditor's terms; None where the subject reports nothing.
    """

    packed: Path
    dequantized: Path
    result: Mapping[str, JSON]
    report: CompressionReport | None = None


@dataclass(frozen=True)
class RegisteredVersion:
    """What a registry tells of one version of a model.

    `gates` tells which gates passed. `digests` has the SHA-256 of what identifies the version's files and, where one is
    kept with it, of the `scorecard`. `lineage` tells where the model came from (`phase3`) and where the description of
    what goes on is (`phase5`), in the subject's words.
    """

    name: str
    version: int
    promoted: bool
    gates: Mapping[str, bool]
    digests: Mapping[str, str]
    lineage: Mapping[str, str]


@dataclass(frozen=True)
class GateMeasurements:
    """What the gates of a compression are decided on; None: not measured.

    Perplexities are per token; accuracies, `gradient_flow` (quantized layers whose latent weight gets a gradient),
    `dequantized_fraction` (FP16 weights equal to half(scale x codes)) and `agreement` (positions where both artefacts
    choose the same next token) are fractions in 0..1; `nonfinite` counts NaN and infinite values; `reproduced` says
    that a fresh process gave the logits of both artefacts again.
    """

    perplexity_before: float | None
    perplexity_after: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    compression_ratio: float | None
    gradient_flow: float | None
    dequantized_fraction: float | None
    agreement: float | None
    nonfinite: int | None
    reproduced: bool


@dataclass(frozen=True)
class GateDecision:
    """Which gates passed, by the names in `GATES`, and whether the compression counts as a success."""

    passed: Mapping[str, bool]
    success: bool


GATES = (
    "perplexity_increase",
    "accuracy_drop",
    "compression_ratio",
    "gradient_flow",
    "dequantization",
    "agreement",
    "finiteness",
)
