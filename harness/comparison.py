"""Comparisons written as text, such as ">= 8.0" or "within 0.05..0.45": thresholds that stay data."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import AuditError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ONE_SIDED = re.compile(rf"(>=|<=|==|>|<)\s*({_NUMBER})")
_WITHIN = re.compile(rf"within\s+({_NUMBER})\s*\.\.\s*({_NUMBER})")


@dataclass(frozen=True)
class Comparison:
    """A parsed comparison; `text` is what was written."""

    text: str
    operator: str
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Comparison:
        """Read ">= 8.0", "<= 0.1", "> 0", "< 1", "== 13" or "within 0.05..0.45"; raises AuditError otherwise."""
        stripped = text.strip() if isinstance(text, str) else ""
        if match := _ONE_SIDED.fullmatch(stripped):
            bound = float(match[2])
            return cls(stripped, match[1], bound, bound)
        if (match := _WITHIN.fullmatch(stripped)) and float(match[1]) <= float(match[2]):
            return cls(stripped, "within", float(match[1]), float(match[2]))
        raise AuditError(f'cannot read the comparison {text!r}; write ">= 8.0", "<= 0.1" or "within 0.05..0.45"')

    def holds(self, value: float | None) -> bool:
        """Whether a value meets the comparison; bounds included; None, NaN and infinity never do."""
        if value is None or not math.isfinite(value):
            return False
        if self.operator == "within":
            return self.low <= value <= self.high
        return _OPERATORS[self.operator](value, self.low)

    def margin(self, value: float) -> float:
        """How far inside (positive) or outside (negative) the comparison a value lies; minus infinity for NaN."""
        if math.isnan(value):
            return -math.inf
        if self.operator in (">=", ">"):
            return value - self.low
        if self.operator in ("<=", "<"):
            return self.high - value
        return min(value - self.low, self.high - value)
