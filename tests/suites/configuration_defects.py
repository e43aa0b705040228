"""Subjects with one defect each in how they resolve, validate, read or write their configuration."""

from pathlib import Path

import numpy as np
import yaml

from tests.suites.reference_subject import LIMITS, ReferenceSubject, Settings

# --------------------------------------------------------------------------- resolution


class OtherDefaults(ReferenceSubject):
    """Every fixed default a little off."""

    def resolve(self, parameters, settings):
        plain = vars(Settings())
        moved = {key: value * 2 for key, value in vars(settings).items() if value is not None and value == plain[key]}
        return super().resolve(parameters, settings) | moved


class BoundaryTakenAsTheSmallerSize(ReferenceSubject):
    """50M parameters counted as tiny, and so on: <= where < is meant."""

    def row(self, parameters):
        return next(row for row in self.table if parameters <= row[0])


class LargeTakenForTiny(ReferenceSubject):
    """Models beyond the table fall back to its first row."""

    def row(self, parameters):
        return next((row for row in self.table[:3] if parameters < row[0]), self.table[0])


class UserValueOverwrittenByTheTable(ReferenceSubject):
    def resolve(self, parameters, settings):
        _, threshold, target, _ = self.row(parameters)
        return super().resolve(parameters, settings) | {"sparsity_threshold": threshold, "compression_target": target}


class DefaultOfAnotherSizeTakenForUnset(ReferenceSubject):
    """Tells "not set" by comparing with a default, so a user who asks for exactly that value is not heard."""

    def resolve(self, parameters, settings):
        resolved = super().resolve(parameters, settings)
        if resolved["sparsity_threshold"] == 0.10:
            resolved["sparsity_threshold"] = self.row(parameters)[1]
        return resolved


# --------------------------------------------------------------------------- validation


class NaNAccepted(ReferenceSubject):
    """Every comparison with NaN is false, so "reject what is below 0" lets it through."""

    def validated(self, user):
        for key, value in user.items():
            if not (isinstance(value, float) and np.isnan(value)):
                super().validated({key: value})
        return user


class BooleansTakenForNumbers(ReferenceSubject):
    def validated(self, user):
        super().validated({key: value for key, value in user.items() if not isinstance(value, bool)})
        return user


class EndsOfRangesRefused(ReferenceSubject):
    def allowed(self, key, value):
        return super().allowed(key, value) and value not in (0, 1)


class HalfOfEachRangeRefused(ReferenceSubject):
    """Holds the user to the values that the size table happens to use."""

    def allowed(self, key, value):
        return super().allowed(key, value) and not (key == "sparsity_threshold" and value and 0.2 < value < 1)


class UnknownSettingsDropped(ReferenceSubject):
    def validated(self, user):
        super().validated({key: value for key, value in user.items() if key in LIMITS})
        return {key: value for key, value in user.items() if key in LIMITS}


# --------------------------------------------------------------------------- files and texts


class WritesResolvedSettings(ReferenceSubject):
    """Writes the table's values for one size into the file, where they look like the user's."""

    def write_configuration(self, **user):
        return yaml.safe_dump({key: value for key, value in self.configure(10**6, **user).items() if key in LIMITS})


class FileWinsOverText(ReferenceSubject):
    def read_configuration(self, parameters, file, overrides):
        settings = super().read_configuration(parameters, file, overrides)
        given = {} if file is None else yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        return settings | {key: value for key, value in given.items() if value is not None}


class TextKeptAsText(ReferenceSubject):
    def read_configuration(self, parameters, file, overrides):
        settings = super().read_configuration(parameters, file, overrides)
        return settings | dict(override.split("=", 1) for override in overrides)


class MissingFileTakenForDefaults(ReferenceSubject):
    def read_configuration(self, parameters, file, overrides):
        found = file if file is not None and file.is_file() else None
        return super().read_configuration(parameters, found, overrides)
