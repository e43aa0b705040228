"""Digests of what was measured: a row's figures hold for the very bytes that its evidence names.

The digest of a file is its SHA-256. That of a folder is the SHA-256 of the list that
`find . -type f | LC_ALL=C sort | xargs -d '\n' sha256sum` prints in it, so that one command does it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from harness.errors import AuditError

ALGORITHM = "sha256"


class HoldsArtefacts:
    """Base of fixtures that hold files: every check that asks for one records what those files were."""

    @property
    def artefacts(self) -> Mapping[str, Path]:
        """The files and folders by the names that the evidence gives them."""
        raise NotImplementedError


def digest_of(path: Path) -> str:
    """The digest of a file or a folder, such as "sha256:9f86d0..."; raises AuditError where there is none."""
    try:
        if not path.is_dir():
            return f"{ALGORITHM}:{_file(path)}"
        files = sorted(
            (file for file in path.rglob("*") if file.is_file()), key=lambda file: _name(path, file).encode()
        )
        lines = "".join(f"{_file(file)}  {_name(path, file)}\n" for file in files)
    except OSError as error:
        raise AuditError(f"cannot read the artefact {path}: {error.strerror}; name a file or folder") from error
    return f"{ALGORITHM}:{hashlib.sha256(lines.encode()).hexdigest()}"


def _name(folder: Path, file: Path) -> str:
    return f"./{file.relative_to(folder).as_posix()}"


def _file(path: Path) -> str:
    state = path.stat()
    return _hashed(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _hashed(path: Path, _size: int, _modified: int) -> str:
    """A file's SHA-256, computed once while its size and time stay: many checks look at one large model."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, ALGORITHM).hexdigest()
