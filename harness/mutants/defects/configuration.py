"""Subjects with one defect each in how they resolve, validate, read or write their configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from typing_extensions import override

from harness.mutants.reference.configuration import LIMITS, Settings
from harness.mutants.reference.quantizing import ReferenceSubject

# --------------------------------------------------------------------------- resolution


class OtherDefaults(ReferenceSubject):
    """Every fixed default a little off."""

    @override
    def resolve(self, parameters: int, settings: Settings) -> dict[str, Any]:
        plain = vars(Settings())
        moved = {key: value * 2 for key, value in vars(settings).items() if value is not None and value == plain[key]}
        return super().resolve(parameters, settings) | moved


class BoundaryTakenAsTheSmallerSize(ReferenceSubject):
    """50M parameters counted as tiny, and so on: <= where < is meant."""

    @override
    def row(self, parameters: int) -> tuple[float, float, float, str]:
        return next(row for row in self.table if parameters <= row[0])


class LargeTakenForTiny(ReferenceSubject):
    """Models beyond the table fall back to its first row."""

    @override
    def row(self, parameters: int) -> tuple[float, float, float, str]:
        return next((row for row in self.table[:3] if parameters < row[0]), self.table[0])


class UserValueOverwrittenByTheTable(ReferenceSubject):
    """The size table overwrites what the user has set."""

    @override
    def resolve(self, parameters: int, settings: Settings) -> dict[str, Any]:
        _, threshold, target, _ = self.row(parameters)
        return super().resolve(parameters, settings) | {"sparsity_threshold": threshold, "compression_target": target}


class DefaultOfAnotherSizeTakenForUnset(ReferenceSubject):
    """Tells "not set" by comparing with a default, so a user who asks for exactly that value is not heard."""

    @override
    def resolve(self, parameters: int, settings: Settings) -> dict[str, Any]:
        resolved = super().resolve(parameters, settings)
        if resolved["sparsity_threshold"] == 0.10:
            resolved["sparsity_threshold"] = self.row(parameters)[1]
        return resolved


# --------------------------------------------------------------------------- validation


class NaNAccepted(ReferenceSubject):
    """Every comparison with NaN is false, so "reject what is below 0" lets it through."""

    @override
    def validated(self, user: dict[str, Any]) -> dict[str, Any]:
        for key, value in user.items():
            if not (isinstance(value, float) and np.isnan(value)):
                super().validated({key: value})
        return user


class BooleansTakenForNumbers(ReferenceSubject):
    """True and False pass for numbers."""

    @override
    def validated(self, user: dict[str, Any]) -> dict[str, Any]:
        super().validated({key: value for key, value in user.items() if not isinstance(value, bool)})
        return user


class EndsOfRangesRefused(ReferenceSubject):
    """Refuses 0 and 1, which are inside the ranges."""

    @override
    def allowed(self, key: str, value: Any) -> bool:
        return super().allowed(key, value) and value not in (0, 1)


class HalfOfEachRangeRefused(ReferenceSubject):
    """Holds the user to the values that the size table happens to use."""

    @override
    def allowed(self, key: str, value: Any) -> bool:
        return super().allowed(key, value) and not (key == "sparsity_threshold" and value and 0.2 < value < 1)


class UnknownSettingsDropped(ReferenceSubject):
    """Drops a setting that it does not know instead of refusing it."""

    @override
    def validated(self, user: dict[str, Any]) -> dict[str, Any]:
        super().validated({key: value for key, value in user.items() if key in LIMITS})
        return {key: value for key, value in user.items() if key in LIMITS}


# --------------------------------------------------------------------------- files and texts


class WritesResolvedSettings(ReferenceSubject):
    """Writes the table's values for one size into the file, where they look like the user's."""

    @override
    def write_configuration(self, **user: Any) -> str:
        return yaml.safe_dump({key: value for key, value in self.configure(10**6, **user).items() if key in LIMITS})


class FileWinsOverText(ReferenceSubject):
    """A value of the file wins over the one given as text."""

    @override
    def read_configuration(self, parameters: int, file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
        settings = super().read_configuration(parameters, file, overrides)
        given = {} if file is None else yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        return settings | {key: value for key, value in given.items() if value is not None}


class TextKeptAsText(ReferenceSubject):
    """A setting given as text stays a string."""

    @override
    def read_configuration(self, parameters: int, file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
        settings = super().read_configuration(parameters, file, overrides)
        return settings | dict(override.split("=", 1) for override in overrides)


class MissingFileTakenForDefaults(ReferenceSubject):
    """A configuration file that is missing stands for the defaults."""

    @override
    def read_configuration(self, parameters: int, file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
        found = file if file is not None and file.is_file() else None
        return super().read_configuration(parameters, found, overrides)
