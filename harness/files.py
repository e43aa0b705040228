"""Files that are either whole or absent: written beside their place, then renamed into it; and files of others, read.

What is read may come from anybody: a pipe would be waited for for ever, and JSON may be nested without end or hold text
that no file can.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Final

from harness.errors import AuditError

LARGEST: Final = 2**28
"""Bytes of a file that are read at most; a scorecard has one or two million."""


def read_text(path: Path, what: str, remedy: str, errors: str = "strict") -> str:
    """The UTF-8 text of a file; raises AuditError, naming `what` it was to be, where it is none or far too large."""
    try:
        if not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
            raise AuditError(f"cannot read {what} {path}: a pipe or a device is no file; {remedy}")
        with path.open("rb") as handle:
            content = handle.read(LARGEST + 1)
    except OSError as error:
        raise AuditError(f"cannot read {what} {path}: {error.strerror}; {remedy}") from error
    except ValueError as error:
        if isinstance(error, AuditError):
            raise
        raise AuditError(f"cannot read {what} {str(path)!r}: no file can have that name; {remedy}") from error
    if len(content) > LARGEST:
        raise AuditError(f"cannot read {what} {path}: it has more than {LARGEST} bytes; {remedy}")
    try:
        return content.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise AuditError(f"cannot read {what} {path}: it is not UTF-8 text; {remedy}") from error


def parse_json(text: str) -> Any:
    """JSON data; raises ValueError also where it is nested too deeply, or has text that cannot be written again."""
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a lone surrogate)") from None
    return data


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
