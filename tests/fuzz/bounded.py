"""One reading of foreign content within bounds of time and memory, and what is asked of it."""

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from bitnet.errors import BitnetError
from harness.errors import AuditError

SECONDS = 20
#: Address space beyond what the process has, in bytes: several times the largest example.
ROOM = 2 << 30


class Hang(BaseException):
    """More than `SECONDS` have passed; no reader catches this."""


@contextlib.contextmanager
def bounds() -> Iterator[None]:
    """Inside, a reading that takes too long raises Hang, and one that takes too much memory MemoryError."""

    def stop(*_: object) -> None:
        raise Hang

    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    previous = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, previous)


def check(reader, root: Path, content: bytes, place: Path) -> None:
    """It is read, or refused in one sentence, and nothing beside its folder is touched."""
    folder = place / "folder"
    beside = {path for path in place.iterdir() if path != folder}
    try:
        with bounds():
            reader(root, content, folder)
    except (BitnetError, AuditError) as error:
        told = str(error)
        assert told.strip(), "refused without a word"
        assert "\n" not in told, told
        assert len(told) < 4_000, len(told)
    assert {path for path in place.iterdir() if path != folder} == beside
