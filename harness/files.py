"""Files that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from harness.errors import AuditError


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically, making the directory if need be; raises AuditError where that is impossible."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes atomically, making the directory if need be; raises AuditError where that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise AuditError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise AuditError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error
    return path


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
