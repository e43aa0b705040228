"""Subjects that offer a declaration and nothing else."""

from dataclasses import dataclass
from pathlib import Path

from harness.subject import Declaration


@dataclass(frozen=True)
class BareSubject:
    """A subject without any capability; its source may be anywhere."""

    source_root: Path | None = None

    @property
    def declaration(self) -> Declaration:
        return Declaration(name="bare", version="1", source_root=self.source_root)
