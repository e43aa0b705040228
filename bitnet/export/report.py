"""What an export consists of, for the command line and for JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Exported:
    """A finished export: its place, its size in bytes, and how many matrices are stored in which type.

    `notes` say, one sentence each, what a reader of the export should know of it.
    """

    format: str
    path: Path
    bytes: int
    matrices: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON can hold it."""
        return {**asdict(self), "path": str(self.path)}
