"""Small files of unknown origin: what is no file, or is far larger than such a file can be, is not read.

A pipe in the place of a file would be waited for for ever, and a device never ends.
"""

import stat
from pathlib import Path
from typing import Final

from bitnet.errors import BitnetError

LARGEST: Final = 2**26
"""Bytes of a record that are read at most, many times what any record here has."""


def check_regular(path: Path) -> None:
    """Refuse pipes, sockets and devices; what is not there, and folders, are for the reader to complain of.

    Raises:
        BitnetError: `path` is none of the three.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # of names that no file can have
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise BitnetError(f"{path} is a pipe or a device, not a file: put a file in its place.")


def read_small(path: Path, largest: int = LARGEST) -> str:
    """The UTF-8 text of a file that may have `largest` bytes.

    Raises:
        BitnetError: it is missing, cannot be read, is larger, or is not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
    except OSError as error:
        raise BitnetError(f"Cannot read {path} ({error.strerror}): check that it is there and complete.") from error
    except ValueError as error:
        raise BitnetError(f"Cannot read {str(path)!r} ({error}): no file can have that name.") from error
    if len(content) > largest:
        raise BitnetError(f"{path} has more than {largest} bytes, far more than such a file needs: write it again.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BitnetError(f"{path} is not UTF-8 text (byte {error.start}): write it again.") from error
