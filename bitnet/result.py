"""`result.json`: everything that a Phase 4 run measured and decided, as a schema."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bitnet.checkpoint import read_json, write_json
from bitnet.errors import BitnetError, first_complaint
from bitnet.handoff import Phase3Manifest
from bitnet.perplexity import PerplexityResult
from bitnet.quality import Gate

RESULT = "result.json"
SCHEMA_VERSION: Final = 1


def finite(value: float) -> float | None:
    """`value`, or None for NaN and infinity, which JSON does not know."""
    return value if math.isfinite(value) else None


class Record(BaseModel):
    """Base of all records: immutable, and nothing in it that the schema does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figures(Record):
    """Quality of one model on the evaluation text. An infinite perplexity is None, as JSON knows no infinity.

    `standard_error` is that of `loss`, see `bitnet.perplexity.PerplexityResult`.
    """

    tokens: int
    loglikelihood: float
    token_perplexity: float | None
    word_perplexity: float | None
    byte_perplexity: float | None
    bits_per_byte: float
    next_token_accuracy: float
    standard_error: float | None = None

    @classmethod
    def of(cls, result: PerplexityResult) -> "Figures":
        """The figures of an evaluation."""
        return cls(
            tokens=result.tokens,
            loglikelihood=result.loglikelihood,
            token_perplexity=finite(result.token_perplexity),
            word_perplexity=finite(result.word_perplexity),
            byte_perplexity=finite(result.byte_perplexity),
            bits_per_byte=result.bits_per_byte,
            next_token_accuracy=result.next_token_accuracy,
            standard_error=result.standard_error,
        )

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of a token, in nats."""
        return -self.loglikelihood / self.tokens

    @property
    def perplexity_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the token perplexity over texts of this kind; None where it is not known or infinite."""
        if self.standard_error is None or self.token_perplexity is None:
            return None
        margin = 1.96 * self.standard_error
        try:
            return math.exp(self.loss - margin), math.exp(self.loss + margin)
        except OverflowError:
            return None


class TextRecord(Record):
    """A text by its origin and the SHA-256 of its UTF-8 bytes."""

    source: str
    sha256: str
    characters: int


class PlanRow(Record):
    """One `LayerDecision`."""

    name: str
    kind: str
    parameters: int
    quantized: bool
    reason: str


class CompensationRow(Record):
    """What compensation read: `samples` texts of `tokens` tokens; the hash is of their int64 token numbers."""

    source: str
    samples: int
    tokens: int
    sha256: str


class CalibrationRow(Record):
    """What calibration used; `second_moments` is False for rules that weigh all input features alike.

    `compensation` is None where there is none.
    """

    text: TextRecord
    requested_samples: int
    used_samples: int
    tokens: int
    shortfall: int
    second_moments: bool
    compensation: CompensationRow | None = None


class LayerRow(Record):
    """One quantized layer as stored, and the norm of the gradient that reached its latent weight.

    `weight_error` is |W - Q|^2 / |W|^2 against the full-precision model, recovery included: it tells where weights have
    moved, not what that costs. None in records of before it was measured, and for a layer that is zero.
    """

    name: str
    shape: tuple[int, int]
    planes: int
    scale_shape: tuple[int, int, int]
    zero_fraction: float
    bytes: int
    gradient_norm: float | None
    gradient_problem: str | None
    weight_error: float | None = None


class GateRow(Record):
    """One gate with its outcome."""

    name: str
    measured: float | None
    comparison: Literal["<=", ">="]
    limit: float
    passed: bool
    explanation: str

    @classmethod
    def of(cls, gate: Gate) -> "GateRow":
        """The record of a gate; a figure that JSON cannot hold (NaN, infinity) becomes None, which passes nothing."""
        return cls(
            name=gate.name,
            measured=None if gate.measured is None else finite(gate.measured),
            comparison=gate.comparison,
            limit=gate.limit,
            passed=gate.passed,
            explanation=gate.explanation,
        )


class RecoveryRow(Record):
    """Whether recovery was called for and what it did; `report` is the fine-tuner's own, None when it did not run."""

    perplexity_increase: float | None
    trigger: float
    triggered: bool
    steps: int
    report: dict[str, Any] | None


class DualOutputRow(Record):
    """Comparison of the artefacts, see `bitnet.dual_output.DualOutput`."""

    weights: int
    equal: int
    positions: int
    agreement: float
    agreement_int8: float | None
    nonfinite: int


class SizesRow(Record):
    """Bytes and ratios, see `bitnet.sizes.Sizes`."""

    fp32_bytes: int
    packed_bytes: int
    fp16_folder_bytes: int
    quantized_weights: int
    quantized_bytes: int
    compression_ratio: float
    compression_ratio_fp16: float
    quantized_ratio: float
    bits_per_weight: float


class FallbackRow(Record):
    """A step that was not done as asked, or as it would be best, and what was done instead."""

    step: str
    used: str
    reason: str


class AttemptRow(Record):
    """One way that was tried, with the figures that it ended with; `layers_by_planes` is empty without compensation."""

    name: str
    token_perplexity: float | None
    next_token_accuracy: float
    layers_by_planes: dict[int, int]


class VerificationRow(Record):
    """What a fresh process found when it reloaded the artefacts and computed the recorded logits again.

    As in `bitnet.verify.Verification`; a difference that is not finite is None, and everything is where the process
    failed, with `error` as its sentence.
    """

    positions: int
    packed_difference: float | None
    fp16_difference: float | None
    tolerance: float
    reproduced: bool
    packed_identical: bool | None = None
    fp16_identical: bool | None = None
    error: str | None = None


class StageRow(Record):
    """Wall-clock seconds of one stage, and the peak resident memory of the process up to the stage's end, in bytes.

    The peak never falls: what a stage added to it is the difference from the stage before.
    """

    name: str
    duration: float
    peak_memory: int


class Phase4Result(Record):
    """A complete run. `final` is what the packed artefact measures: `recovered` where recovery ran, else `after`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    source: str
    source_kind: str
    phase3: Phase3Manifest
    model_type: str
    parameters: int
    size_class: str
    command: str
    config: dict[str, Any]
    user_set: tuple[str, ...]
    plan: tuple[PlanRow, ...]
    calibration: CalibrationRow
    evaluation: TextRecord
    before: Figures
    after: Figures
    recovered: Figures | None
    final: Figures
    recovery: RecoveryRow
    layers: tuple[LayerRow, ...]
    zero_fraction: float
    sizes: SizesRow
    dual_output: DualOutputRow
    gates: tuple[GateRow, ...]
    verification: VerificationRow
    success: bool
    fallbacks: tuple[FallbackRow, ...]
    attempts: tuple[AttemptRow, ...] = ()
    metrics: dict[str, float | int | bool]
    phase: dict[str, float | bool | str]
    stages: tuple[StageRow, ...]
    started: str
    finished: str
    duration: float

    @property
    def missed(self) -> tuple[GateRow, ...]:
        """The gates that were not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)


def save_result(directory: Path, result: Phase4Result) -> None:
    """Write `result.json` into `directory`."""
    write_json(directory / RESULT, result.model_dump(mode="json"))


def load_result(directory: Path) -> Phase4Result:
    """Read `result.json` back; a BitnetError names what is missing or wrong in it."""
    path = directory / RESULT
    try:
        return Phase4Result.model_validate(read_json(path))
    except ValidationError as error:
        raise BitnetError(f"{path} is damaged at {first_complaint(error)}: compress the model again.") from None


def without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    """A result as JSON without the fields that differ between two runs of the same command: times and memory."""
    varying = {"started", "finished", "duration", "seconds", "compression/fine_tune_time_hours", "peak_memory"}

    def strip(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: strip(entry) for key, entry in value.items() if key not in varying}
        return [strip(entry) for entry in value] if isinstance(value, (list, tuple)) else value

    stripped: dict[str, Any] = strip(record)
    return stripped
