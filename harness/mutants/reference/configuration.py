"""The settings of the audit's section 3, resolved by a model's size, validated, and kept in YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

LIMITS: Mapping[str, Callable[[Any], bool]] = {
    "quantization_bits": lambda v: v == 1.58,
    "sparsity_threshold": lambda v: v is None or 0 <= v <= 1,
    "compression_target": lambda v: v is None or v >= 1,
    "fine_tune_lr": lambda v: v > 0,
    "grokfast_lambda": lambda v: v >= 0,
    "grokfast_alpha": lambda v: 0 <= v < 1,
    "max_accuracy_drop": lambda v: 0 <= v <= 1,
    "fine_tune_trigger": lambda v: v >= 0,
    "calibration_samples": lambda v: isinstance(v, int) and v >= 1,
}


@dataclass(frozen=True)
class Settings:
    """The audit's section 3."""

    quantization_bits: float = 1.58
    sparsity_threshold: float | None = None
    compression_target: float | None = None
    fine_tune_lr: float = 1e-5
    grokfast_lambda: float = 2.0
    grokfast_alpha: float = 0.98
    max_accuracy_drop: float = 0.10
    fine_tune_trigger: float = 0.05
    calibration_samples: int = 1000


class Configuration:
    """Resolves, validates, reads and writes settings; each step is a method that a defect can replace."""

    def configure(self, parameters: int, **user: Any) -> dict[str, Any]:
        """See `harness.subject.Configures`."""
        return self.resolve(parameters, Settings(**self.validated(user)))

    def reject(self, **user: Any) -> None:
        """See `harness.subject.Configures`."""
        self.validated(user)

    def read_configuration(self, parameters: int, file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
        """See `harness.subject.ReadsConfiguration`."""
        try:
            given = {} if file is None else (yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {})
            for override in overrides:
                key, _, value = override.partition("=")
                given[key] = yaml.safe_load(value)
            return self.configure(parameters, **given)
        except (OSError, TypeError, yaml.YAMLError) as error:
            raise ValueError(str(error)) from error

    def write_configuration(self, **user: Any) -> str:
        """See `harness.subject.ReadsConfiguration`."""
        return yaml.safe_dump(vars(Settings(**self.validated(user))))

    def allowed(self, key: str, value: Any) -> bool:
        """Whether a value lies inside the range of its setting."""
        return LIMITS[key](value)

    def validated(self, user: dict[str, Any]) -> dict[str, Any]:
        """The user's settings, checked."""
        for key, value in user.items():
            if key not in LIMITS:
                raise ValueError(f"unknown setting {key}")
            if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
                raise ValueError(f"{key} = {value!r} is not a number")
            if value is None and key not in ("sparsity_threshold", "compression_target"):
                raise ValueError(f"{key} takes a number")
            if not (value is None or np.isfinite(value)) or not self.allowed(key, value):
                raise ValueError(f"{key} = {value!r} is not allowed")
        return user

    table = (
        (50_000_000, 0.05, 6.0, "conservative"),
        (500_000_000, 0.10, 8.0, "standard"),
        (2_000_000_000, 0.15, 10.0, "aggressive"),
        (float("inf"), 0.20, 12.0, "maximum"),
    )

    def row(self, parameters: int) -> tuple[float, float, float, str]:
        """The row of the size table for a model."""
        return next(row for row in self.table if parameters < row[0])

    def resolve(self, parameters: int, settings: Settings) -> dict[str, Any]:
        """Every setting, the size table filling in what is not set."""
        _, threshold, target, quality = self.row(parameters)
        if settings.sparsity_threshold is None:
            settings = replace(settings, sparsity_threshold=threshold)
        if settings.compression_target is None:
            settings = replace(settings, compression_target=target)
        return vars(settings) | {"quality": quality}
