"""What the stages of Phase 4 hand to each other: frozen records."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float32, Int64
from torch import Tensor

from bitnet.calibration import CalibrationReport
from bitnet.compensation_text import CompensationText
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.fine_tuner import RecoveryReport
from bitnet.handoff import Phase3Manifest
from bitnet.models import LoadedModel
from bitnet.perplexity import PerplexityResult
from bitnet.result import AttemptRow, FallbackRow, TextRecord


@dataclass(frozen=True)
class Text:
    """A text and where it comes from."""

    content: str
    source: str

    @property
    def record(self) -> TextRecord:
        """What `result.json` keeps of it."""
        digest = hashlib.sha256(self.content.encode()).hexdigest()
        return TextRecord(source=self.source, sha256=digest, characters=len(self.content))


@dataclass(frozen=True)
class Run:
    """Everything that is settled before the first measurement; `config` is resolved for this model."""

    loaded: LoadedModel
    config: Phase4Config
    user_set: tuple[str, ...]
    parameters: int
    phase3: Phase3Manifest
    calibration_text: Text
    evaluation_text: Text
    fallbacks: tuple[FallbackRow, ...]
    command: str
    started: str


@dataclass(frozen=True)
class Calibration:
    """Samples, E[x_j^2] of every quantized layer's input for the rule that weighs by it, what compensation reads.

    `reconstruction` is what blocks are trained on, None where they are not.
    """

    samples: Int64[Tensor, "samples tokens"]
    moments: Mapping[str, Float32[Tensor, "in"]] | None
    report: CalibrationReport
    compensation: CompensationText | None = None
    reconstruction: Int64[Tensor, "samples tokens"] | None = None


@dataclass(frozen=True)
class Recovery:
    """The packed model that goes on; `figures` and `report` are None where recovery did not run.

    `fallbacks` and `attempts` tell of the chain that followed, if it did.
    """

    packed: CompressedModel
    triggered: bool
    figures: PerplexityResult | None
    report: RecoveryReport | None
    fallbacks: tuple[FallbackRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
