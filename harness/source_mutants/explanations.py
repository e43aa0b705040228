"""Why a change to the source cannot be noticed: a TOML file of survivors that have been looked at.

    [[explained]]
    file = "bitnet/packing.py"
    function = "pack_planes"                  # "" for what is outside of functions; Class.method
    reason = "..."
    changes = ['''
    - the line as it is
    + the line as it becomes''']

One reason may hold for several changes. An explanation that matches no survivor is a warning: the code has changed, or
a test has come to notice what was thought to be equal.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from harness.errors import AuditError
from harness.evidence import Record


class Entry(Record):
    """One reason, and the changes to a function that it explains."""

    file: str
    function: str
    reason: str = Field(min_length=1)
    changes: tuple[str, ...] = Field(min_length=1)

    @field_validator("changes")
    @classmethod
    def _stripped(cls, changes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple("\n".join(line.strip() for line in change.strip().split("\n")) for change in changes)


class Explanations(Record):
    """Every entry of the file, in its order."""

    entries: tuple[Entry, ...] = Field(default=(), alias="explained")

    def reason(self, file: str, function: str, change: str) -> str | None:
        """Why this change is not noticed, if somebody has said."""
        for entry in self.entries:
            if (entry.file, entry.function) == (file, function) and change in entry.changes:
                return entry.reason
        return None


def read_explanations(path: Path) -> Explanations:
    """Read the file; raises AuditError where that is impossible."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return Explanations.model_validate(data)
    except OSError as error:
        raise AuditError(f"cannot read the explanations {path}: {error.strerror}; name another file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AuditError(f"{path}, {where}: {first['msg']}; correct it") from error
    except ValueError as error:
        raise AuditError(f"{path} is not TOML: {error}; correct it") from error
