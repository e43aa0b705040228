"""A time limit whose answers are kept on disk: a run that was killed decides as before when it is started again."""

import contextlib
import time
from pathlib import Path

from bitnet.checkpoint import read_json, write_json
from bitnet.errors import BitnetError


class Deadline:
    """Whether a time is over; asked for the same time again after an interruption, it gives the answer that it gave."""

    def __init__(self, file: Path, key: str, ends: float) -> None:
        """Args: `file` keeps the answers; `key` tells apart the runs; `ends`, a time by `time.monotonic`."""
        self._file, self._key, self._ends = file, key, ends
        self._given = _kept(file, key)
        self._asked = 0

    def over(self) -> bool:
        """Whether the time is over."""
        if self._asked == len(self._given):
            self._given.append(time.monotonic() >= self._ends)
            write_json(self._file, {"key": self._key, "over": self._given})
        self._asked += 1
        return self._given[self._asked - 1]


def _kept(file: Path, key: str) -> list[bool]:
    """The answers that were given to this run; none where the file is missing, damaged or of another run."""
    with contextlib.suppress(BitnetError):
        kept = read_json(file)
        given = kept.get("over") if isinstance(kept, dict) and kept.get("key") == key else None
        if isinstance(given, list) and all(isinstance(answer, bool) for answer in given):
            return given
    return []
