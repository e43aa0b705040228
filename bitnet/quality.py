"""Quality gates: what a compressed model must measure to count as a success, decided exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

#: The two artefacts must choose the same next token at least this often (forensic audit, "dual model output").
MINIMUM_AGREEMENT = 0.995

EXPLANATIONS = {
    "perplexity_increase": "relative increase of token perplexity over the full-precision model",
    "accuracy_drop": "relative drop of next-token accuracy from the full-precision model",
    "compression_ratio": "FP32 bytes of the model over the bytes of all files needed to reload the packed one",
    "gradient_flow": "fraction of the artefact's quantized layers whose latent weight gets a finite, non-zero gradient",
    "dequantization": "fraction of the FP16 model's weights equal to half(x), x being scale * codes of the packed one",
    "agreement": "fraction of positions where both artefacts choose the same next token, activations in floating point",
    "finiteness": "NaN or infinite values in the tensors and logits of both artefacts",
}


@dataclass(frozen=True)
class Gate:
    """One measured figure against one limit.

    `measured` is None where the figure could not be measured. None and NaN never pass.
    """

    name: str
    measured: float | None
    limit: float
    comparison: Literal["<=", ">="]
    explanation: str

    @property
    def passed(self) -> bool:
        """Whether the figure meets the limit; a figure exactly at the limit does."""
        if self.measured is None or not math.isfinite(self.measured) or not math.isfinite(self.limit):
            return False
        return self.measured <= self.limit if self.comparison == "<=" else self.measured >= self.limit


@dataclass(frozen=True)
class Measurements:
    """What the gates look at. Perplexities per token; accuracies and fractions in 0..1; None: not measured.

    `agreement` is the fraction of positions where the packed model (activations in floating point) and the FP16
    model choose the same next token; `dequantized_fraction` the fraction of the FP16 model's weights that equal
    half(x), where x is scale * codes of the packed model in quantized layers and what it stores elsewhere;
    `gradient_flow` the fraction of quantized layers whose latent weight gets a finite, non-zero gradient; `nonfinite`
    the number of NaN or infinite values found.
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


def relative_increase(before: float | None, after: float | None) -> float | None:
    """(after - before) / before, rounded once; None unless both are finite and `before` is positive.

    Both figures are taken as the decimals they print as, so that 110 is exactly 10 % above 100 and 22.11 exactly
    10 % above 20.1, which floating-point division would miss on either side.
    """
    if before is None or after is None or not math.isfinite(before) or not math.isfinite(after) or before <= 0:
        return None
    start = Fraction(repr(float(before)))
    return float((Fraction(repr(float(after))) - start) / start)


def relative_drop(before: float | None, after: float | None) -> float | None:
    """(before - after) / before, with the conventions of `relative_increase`."""
    increase = relative_increase(before, after)
    # Adding 0.0 turns the -0.0 of "no change" into 0.0.
    return None if increase is None else -increase + 0.0


def recovery_triggered(before: float, after: float, trigger: float) -> bool:
    """Whether perplexity rose by strictly more than `trigger` (a fraction of `before`).

    A figure that is not finite always triggers: a broken model is what recovery is for.
    """
    increase = relative_increase(before, after)
    return increase is None or increase > trigger


def gates(measured: Measurements, max_accuracy_drop: float, compression_target: float) -> tuple[Gate, ...]:
    """All gates of Phase 4, in the order in which they are reported."""
    increase = relative_increase(measured.perplexity_before, measured.perplexity_after)
    drop = relative_drop(measured.accuracy_before, measured.accuracy_after)
    nonfinite = None if measured.nonfinite is None else float(measured.nonfinite)
    return (
        _gate("perplexity_increase", increase, "<=", max_accuracy_drop),
        _gate("accuracy_drop", drop, "<=", max_accuracy_drop),
        _gate("compression_ratio", measured.compression_ratio, ">=", compression_target),
        _gate("gradient_flow", measured.gradient_flow, ">=", 1.0),
        _gate("dequantization", measured.dequantized_fraction, ">=", 1.0),
        _gate("agreement", measured.agreement, ">=", MINIMUM_AGREEMENT),
        _gate("finiteness", nonfinite, "<=", 0.0),
    )


def succeeded(decided: Sequence[Gate], reproduced: bool) -> bool:
    """Whether a run is a success: every gate passed, and a fresh process `reproduced` the logits of both artefacts."""
    return reproduced and all(gate.passed for gate in decided)


def _gate(name: str, measured: float | None, comparison: Literal["<=", ">="], limit: float) -> Gate:
    return Gate(name, measured, limit, comparison, EXPLANATIONS[name])
