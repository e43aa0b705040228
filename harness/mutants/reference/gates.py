"""Subjects that decide gates by a stated rule: the right one, or one of those that real code got wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from harness.subject import GATES, Declaration, GateDecision, GateMeasurements


@dataclass(frozen=True)
class GateSubject:
    """Decides on the decimals that figures print as, with at most one ``defect``; "" is the right rule."""

    defect: str = ""

    @property
    def declaration(self) -> Declaration:
        """What the suites hold it to."""
        return Declaration(name=f"gates {self.defect or 'as defined'}", version="1")

    def decide_gates(
        self, measured: GateMeasurements, max_accuracy_drop: float, compression_target: float
    ) -> GateDecision:
        """See `harness.subject.DecidesGates`."""
        drop = 0.10 if self.defect == "drop fixed at 10 %" else max_accuracy_drop
        target = 8.0 if self.defect == "target fixed at 8" else compression_target
        increase = self._change(measured.perplexity_before, measured.perplexity_after)
        if self.defect == "change of either sign counts" and increase is not None:
            increase = abs(increase)
        decrease = self._change(measured.accuracy_before, measured.accuracy_after)
        passed = {
            "perplexity_increase": self._at_most(increase, drop),
            "accuracy_drop": self._at_most(None if decrease is None else -decrease, drop),
            "compression_ratio": self._at_least(measured.compression_ratio, target),
            "gradient_flow": self._at_least(measured.gradient_flow, 0.99 if self.defect == "99 % will do" else 1.0),
            "dequantization": self._at_least(measured.dequantized_fraction, 1.0),
            "agreement": self._at_least(measured.agreement, 0.99 if self.defect == "99 % will do" else 0.995),
            "finiteness": self._at_most(measured.nonfinite, 0),
        }
        return GateDecision(passed, self._success(passed, measured.reproduced))

    def recovery_triggered(self, before: float, after: float, trigger: float) -> bool:
        """See `harness.subject.DecidesGates`."""
        if not math.isfinite(after):
            return self.defect != "NaN starts no recovery"
        increase = self._change(before, after)
        assert increase is not None
        if self.defect == "recovery at the trigger":
            return increase >= Decimal(repr(trigger))
        return increase > Decimal(repr(0.05 if self.defect == "trigger fixed at 5 %" else trigger))

    def _change(self, before: float | None, after: float | None) -> Decimal | None:
        """(after - before) / before."""
        if before is None or after is None or not math.isfinite(before) or not math.isfinite(after):
            return None
        if self.defect == "changes in floating point":
            return Decimal((after - before) / before)
        start = Decimal(repr(after if self.defect == "relative to the compressed model" else before))
        return (Decimal(repr(after)) - Decimal(repr(before))) / start

    def _at_most(self, value: Decimal | float | None, limit: float) -> bool:
        if value is None or not math.isfinite(value):
            return self.defect == "missing passes"
        if self.defect == "the limit itself fails":
            return Decimal(str(value)) < Decimal(repr(limit))
        return Decimal(str(value)) <= Decimal(repr(limit))

    def _at_least(self, value: float | None, limit: float) -> bool:
        if value is None:
            return self.defect == "missing passes"
        if self.defect == "comparisons the wrong way round":
            return not value < limit  # NaN passes
        return math.isfinite(value) and value >= limit

    def _success(self, passed: dict[str, bool], reproduced: bool) -> bool:
        if self.defect == "success whatever the gates say":
            return True
        if self.defect == "success is most of the gates":
            return sum(passed.values()) > len(GATES) // 2 and reproduced
        if self.defect == "success without reproduction":
            return all(passed.values())
        return all(passed.values()) and reproduced
