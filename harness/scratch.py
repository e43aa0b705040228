"""Scratch folders in the system's place for temporary files.

A process that is killed leaves its own there, which bears its number; the next one for the same purpose removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import AuditError


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """An empty folder for a purpose, a word, which is removed in the end; those of killed processes go before.

    Raises:
        AuditError: there is no place for it.
    """
    prefix = f"bitnet-audit-{purpose}-"
    try:
        _clear_leftovers(prefix)
        made = tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", ignore_cleanup_errors=True)
    except OSError as error:
        raise AuditError(
            f"cannot make a temporary folder: {error.strerror}; set TMPDIR to a place with room"
        ) from error
    with made as name:
        yield Path(name)


def _clear_leftovers(prefix: str) -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        found = re.fullmatch(r"(\d+)-\w+", left.name.removeprefix(prefix))
        if found is not None and not _alive(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays where it is


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks, and sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
