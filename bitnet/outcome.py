"""From measurements to decisions: gates, success, metrics and the record of a run."""

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic_core import to_jsonable_python
from transformers import PreTrainedModel

from bitnet.compressed_model import TABLE_KINDS, CompressedModel, matrix
from bitnet.dual_output import DualOutput
from bitnet.gradient_flow import GradientFlow
from bitnet.lending import lent
from bitnet.metrics import Metric, after_metrics, before_metrics, phase_summary, process_metrics, recovery_metrics
from bitnet.packed_manifest import TENSORS, read_manifest
from bitnet.perplexity import PerplexityResult
from bitnet.phase_state import Calibration, Recovery, Run
from bitnet.quality import Gate, Measurements, gates, relative_increase, succeeded
from bitnet.result import (
    CalibrationRow,
    CompensationRow,
    DualOutputRow,
    FallbackRow,
    Figures,
    GateRow,
    LayerRow,
    Phase4Result,
    PlanRow,
    RecoveryRow,
    SizesRow,
    StageRow,
    VerificationRow,
    finite,
)
from bitnet.size_settings import size_class
from bitnet.sizes import Sizes, tensor_bytes, weight_bytes


@dataclass(frozen=True)
class Outcome:
    """Everything that a run measured. `before`, `after` and `recovery` hold the evaluations of stages 2, 5 and 6.

    `weight_errors` are those of the function of that name, of the model that is written.
    """

    run: Run
    calibration: Calibration
    before: PerplexityResult
    after: PerplexityResult
    recovery: Recovery
    flow: GradientFlow
    dual: DualOutput
    sizes: Sizes
    verification: VerificationRow
    weight_errors: Mapping[str, float | None]
    zero_fraction: float
    """Fraction of the codes that are 0."""

    @property
    def final(self) -> PerplexityResult:
        """Quality of the model that was written."""
        return self.recovery.figures or self.after

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Every gate, decided against the full-precision model."""
        config = self.run.config
        assert config.compression_target is not None  # resolved
        measured = Measurements(
            perplexity_before=self.before.token_perplexity,
            perplexity_after=self.final.token_perplexity,
            accuracy_before=self.before.next_token_accuracy,
            accuracy_after=self.final.next_token_accuracy,
            compression_ratio=self.sizes.compression_ratio,
            gradient_flow=self.flow.fraction,
            dequantized_fraction=self.dual.equal_fraction,
            agreement=self.dual.agreement,
            nonfinite=self.dual.nonfinite,
        )
        return gates(measured, config.max_accuracy_drop, config.compression_target)

    @property
    def success(self) -> bool:
        """Every gate passed and a fresh process reproduced the logits of both artefacts."""
        return succeeded(self.gates, self.verification.reproduced)

    @property
    def fallbacks(self) -> tuple[FallbackRow, ...]:
        """What was not done as asked, or as it would be best."""
        rows = list(self.run.fallbacks)
        report = self.calibration.report
        if report.used_samples < report.requested_samples:
            used = f"{report.used_samples} of {report.requested_samples} samples"
            rows.append(FallbackRow(step="calibration_samples", used=used, reason="the text holds no more"))
        if self.calibration.compensation is not None and self.calibration.compensation.reason is not None:
            read = self.calibration.compensation
            rows.append(FallbackRow(step="compensation_source", used=read.source, reason=str(read.reason)))
        return (*rows, *self._recovery_fallbacks(), *self.recovery.fallbacks)

    def _recovery_fallbacks(self) -> list[FallbackRow]:
        asked, done = self.run.config.fine_tune_steps, self.recovery.report
        if not self.recovery.triggered:
            return []
        if done is None:
            reason = "no text is left to select weights by" if asked else "fine_tune_steps is 0"
            return [FallbackRow(step="recovery", used="none", reason=reason)]
        rows = []
        if done.planned_steps < asked:
            used = f"{done.planned_steps} of {asked} steps"
            rows.append(FallbackRow(step="fine_tune_steps", used=used, reason="fine_tune_budget pays for no more"))
        if done.stopped is not None:
            used = f"{done.steps} of {done.planned_steps} steps"
            rows.append(FallbackRow(step="recovery", used=used, reason=done.stopped))
        return rows

    def metrics(self) -> dict[str, Metric]:
        """The tracker metrics that were measured."""
        before, after, final = (Figures.of(figures) for figures in (self.before, self.after, self.final))
        plan, config = self.recovery.packed.plan, self.run.config
        quantized = sum(decision.quantized for decision in plan)
        tables = sum(decision.kind in TABLE_KINDS for decision in plan) if config.embedding_dtype != "float32" else 0
        flows = self.flow.fraction == 1.0
        values = {
            **before_metrics(self.sizes, before),
            **process_metrics(self.sizes, self.zero_fraction, self.run.parameters, quantized, quantized + tables),
            **after_metrics(before, after, final, self.dual.equal_fraction, flows),
        }
        if self.recovery.figures is not None and self.recovery.report is not None:
            report = self.recovery.report
            recovered = Figures.of(self.recovery.figures)
            values |= recovery_metrics(before, after, recovered, report.epochs, report.seconds / 3600)
        return values

    def result(self, packed: Path, stages: tuple[StageRow, ...]) -> Phase4Result:
        """The record of the run, its layers read from the artefact in the folder `packed`."""
        run, config = self.run, self.run.config
        before, after, final = (Figures.of(figures) for figures in (self.before, self.after, self.final))
        method = f"{config.rule}-{config.granularity}-{config.codec}"
        recovered = self.recovery.figures
        return Phase4Result(
            source=run.loaded.source,
            source_kind=run.loaded.kind,
            phase3=run.phase3,
            model_type=run.loaded.model.config.model_type,
            parameters=run.parameters,
            size_class=size_class(run.parameters),
            command=run.command,
            config=config.model_dump(mode="json"),
            user_set=run.user_set,
            plan=tuple(PlanRow(**asdict(decision)) for decision in self.recovery.packed.plan),
            calibration=self._calibration(),
            evaluation=run.evaluation_text.record,
            before=before,
            after=after,
            recovered=None if recovered is None else Figures.of(recovered),
            final=final,
            recovery=self._recovery(),
            layers=self._layers(packed),
            zero_fraction=self.zero_fraction,
            sizes=_sizes(self.sizes),
            dual_output=DualOutputRow(**asdict(self.dual)),
            gates=tuple(GateRow.of(gate) for gate in self.gates),
            verification=self.verification,
            success=self.success,
            fallbacks=self.fallbacks,
            attempts=self.recovery.attempts,
            metrics=self.metrics(),
            phase=phase_summary(self.sizes, before, final, self.zero_fraction, method, self.success),
            stages=stages,
            started=run.started,
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            duration=sum(stage.duration for stage in stages),
        )

    def _calibration(self) -> CalibrationRow:
        report = self.calibration.report
        return CalibrationRow(
            text=self.run.calibration_text.record,
            requested_samples=report.requested_samples,
            used_samples=report.used_samples,
            tokens=report.tokens,
            shortfall=report.requested_samples - report.used_samples,
            second_moments=self.calibration.moments is not None,
            compensation=self._compensation(),
        )

    def _compensation(self) -> CompensationRow | None:
        read = self.calibration.compensation
        if read is None:
            return None
        samples, tokens = read.tokens.shape
        digest = hashlib.sha256(read.tokens.contiguous().numpy().tobytes()).hexdigest()
        return CompensationRow(source=read.source, samples=samples, tokens=tokens, sha256=digest)

    def _recovery(self) -> RecoveryRow:
        recovery, config = self.recovery, self.run.config
        return RecoveryRow(
            perplexity_increase=relative_increase(self.before.token_perplexity, self.after.token_perplexity),
            trigger=config.fine_tune_trigger,
            triggered=recovery.triggered,
            steps=config.fine_tune_steps,
            report=None if recovery.report is None else to_jsonable_python(asdict(recovery.report)),
        )

    def _layers(self, packed: Path) -> tuple[LayerRow, ...]:
        stored = tensor_bytes(packed / TENSORS)
        gradients = {gradient.name: gradient for gradient in self.flow.layers}
        return tuple(
            LayerRow(
                name=layer.name,
                shape=layer.shape,
                planes=layer.planes,
                scale_shape=layer.scale_shape,
                zero_fraction=layer.zero_fraction,
                bytes=weight_bytes(stored, layer.name),
                gradient_norm=gradients[layer.name].norm,
                gradient_problem=gradients[layer.name].problem,
                weight_error=self.weight_errors[layer.name],
            )
            for layer in read_manifest(packed).layers
        )


def weight_errors(original: PreTrainedModel, packed: CompressedModel) -> dict[str, float | None]:
    """|W - Q|^2 / |W|^2 of each quantized layer, by name; None where W is zero."""
    errors: dict[str, float | None] = {}
    for name, layer in packed.layers.items():
        module = original.get_submodule(name)
        with lent(module), lent(layer):
            weight = matrix(module).detach().float()
            norm = float(weight.square().sum())
            lost = weight - layer.ternary().dequantize()
        errors[name] = finite(float(lost.square().sum()) / norm) if norm else None
    return errors


def _sizes(sizes: Sizes) -> SizesRow:
    return SizesRow(**{name: getattr(sizes, name) for name in SizesRow.model_fields})
