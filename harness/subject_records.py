"""What passes between the auditor and a subject: plain frozen records, given to its operations or returned by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from jaxtyping import Float, Int8
    from torch import Tensor

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
TieRule = Literal["half_even", "half_up", "away_from_zero", "strictly_greater", "at_least"]
BadInput = Literal["weights", "codes", "bytes"]
OptimizerStage = Literal["filter", "momentum", "orthogonalise"]


# --------------------------------------------------------------------------- what a subject declares


@dataclass(frozen=True)
class WeightVariant:
    """One way in which a subject turns a weight into ternary codes and scales.

    `rule` is one that the oracle knows, "threshold", "absmean" (b1.58), "absmax" (codes round w / max(abs(w))) or
    "optimal" (a searched threshold), or a name of the subject's own: then only what holds for any rule is checked.
    `tau` times mean(abs(weight)) is the threshold at or below which a code is 0 (its floor, for rules that search);
    None where the rule has no such number. `tie_rule` says what happens exactly on the boundary between 0 and 1:
    a rounding rule (half_even, half_up, away_from_zero) or a comparison (strictly_greater: the tie gives 0;
    at_least: the tie gives 1). `second_moment` says that the variant takes the inputs' E[x^2] into account.
    `scale_rule` is what a scale must be: mean(abs(weight)), max(abs(weight)) or the least-squares scale of the codes.

    The rule is promised for blocks whose scale, by definition, lies in the closed `scale_range`: a subject that clamps
    its scales from below (b1.58's epsilon) or stores them in `scale_format` says so here. Blocks of zeros must become
    zeros in any case.
    """

    rule: str
    granularity: Literal["tensor", "channel", "group"]
    group_size: int | None
    tau: float | None
    tie_rule: TieRule
    scale_rule: Literal["absmean", "absmax", "least_squares"]
    second_moment: bool
    scale_range: tuple[float, float] = (0.0, math.inf)
    scale_format: Literal["float32", "float16"] = "float32"

    @property
    def id(self) -> str:
        """A short name for test ids and tables, such as `threshold-channel` or `absmean-group128`."""
        return f"{self.rule}-{self.granularity}{self.group_size or ''}"


@dataclass(frozen=True)
class Declaration:
    """What a subject says about itself; the suites hold it to this, and to what was published in rows of its own.

    `codecs` are packings by name: those of `harness.oracles.packing` are held to their bytes, any other to the round
    trip. `ste` is the straight-through estimator: the gradient of the weight as it is ("identity"), or of a weight
    clamped to its scale ("clipped"). A stored scale multiplies or divides the codes (`scale_convention`).
    `activation_range` is the closed range of activation codes (None: activations stay floating point); `activation_top`
    is what the largest magnitude of a token is scaled to (None: the end of the range), and `activation_floor` the
    magnitude below which a token is scaled as if it were that large. `half_precision` says whether inputs in half
    precision are quantized by their exact values or in the arithmetic of their own format.
    `rejects` are the kinds of bad input that are promised to raise ValueError: weights that are not finite matrices,
    codes that are not ternary, bytes that no codes give. What is not promised may not pass as numbers all the same.
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
    activation_top: int | None = None
    activation_floor: float = 0.0
    half_precision: Literal["exact", "rounded"] = "exact"
    rejects: tuple[BadInput, ...] = ("weights", "codes", "bytes")
    source_root: Path | None = None
    audit_settings: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerRecipe:
    """The constants of a subject's optimizer; lengths of updates are in units of the learning rate.

    `momentum` is that of the orthogonalised (Muon) update, whose scale for an [out, in] matrix is
    0.2 sqrt(max(out, in)) ("match_rms_adamw") or sqrt(max(1, out / in)) ("original"). `betas` and `eps` are AdamW's;
    weight decay is decoupled. `qk_clip` is the largest root mean square of the update of one head's rows of a query or
    key projection (None: these updates are not clipped). `order` is that of the stages behind a hidden matrix' update:
    the gradient filter, Nesterov momentum and orthogonalisation; the clip comes last.
    """

    momentum: float
    update_scale: Literal["match_rms_adamw", "original"]
    betas: tuple[float, float]
    eps: float
    qk_clip: float | None
    order: tuple[OptimizerStage, ...] = ("filter", "momentum", "orthogonalise")


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
COMPRESSION_OVERRIDES = (
    "calibration_samples",
    "calibration_text",
    "compensation",
    "evaluation_text",
    "fine_tune_steps",
    "fine_tune_trigger",
    "seed",
)
"""The only settings that the suites give to `CompressesModels.compress`; see `harness.subject`."""
