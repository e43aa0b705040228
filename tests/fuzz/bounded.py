"""One reading of foreign content within bounds of time and memory, and what is asked of it."""

from pathlib import Path

from bitnet.errors import BitnetError
from harness.errors import AuditError
from harness.limits import bounds

SECONDS = 20


def check(reader, root: Path, content: bytes, place: Path) -> None:
    """It is read, or refused in one sentence, and nothing beside its folder is touched."""
    folder = place / "folder"
    beside = {path for path in place.iterdir() if path != folder}
    try:
        with bounds(SECONDS):
            reader(root, content, folder)
    except (BitnetError, AuditError) as error:
        told = str(error)
        assert told.strip(), "refused without a word"
        assert "\n" not in told, told
        assert len(told) < 4_000, len(told)
    assert {path for path in place.iterdir() if path != folder} == beside
