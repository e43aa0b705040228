"""Subjects that offer a declaration and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.subject import Declaration


@dataclass(frozen=True)
class BareSubject:
    """A subject without any capability; its source may be anywhere."""

    source_root: Path | None = None

    @property
    def declaration(self) -> Declaration:
        """What the suites hold it to."""
        return Declaration(name="bare", version="1", source_root=self.source_root)
