"""Text that needs no download: the language reference that ships with Python, split into training and held-out blocks.

`pydoc_data.topics` repeats whole sections under several names: cut naively, two fifths of a held-out tenth would also
stand in the training text. Every paragraph is therefore kept once, and blocks are made of whole paragraphs.
"""

import functools
import re
from pathlib import Path
from pydoc_data.topics import topics

from bitnet.errors import BitnetError

BLOCK_CHARACTERS = 2_000
"""A block is closed by the paragraph that brings it to this length."""
HELD_OUT_EVERY = 10
"""One block in this many is held out, beginning with the last of the first ten."""


def training_text() -> str:
    """The nine tenths of the text that models may be trained and calibrated on (about 310,000 characters)."""
    return "\n\n".join(block for i, block in enumerate(_blocks()) if not _is_held_out(i))


def heldout_text() -> str:
    """The remaining tenth, for evaluation; it shares no paragraph with `training_text`."""
    return "\n\n".join(block for i, block in enumerate(_blocks()) if _is_held_out(i))


def read_text(path: Path) -> str:
    """The UTF-8 text of a file.

    Raises `BitnetError` when the file is missing, unreadable, not UTF-8, or holds nothing but white space.
    """
    try:
        text = path.read_bytes().decode("utf-8")  # bytes: line ends stay as they are, and count as they are
    except UnicodeDecodeError as error:
        raise BitnetError(f"{path} is not UTF-8 text (byte {error.start}): convert it to UTF-8 first.") from error
    except OSError as error:
        raise BitnetError(f"Cannot read the text {path} ({error.strerror}): give a readable UTF-8 file.") from error
    except ValueError as error:
        raise BitnetError(f"Cannot read the text {str(path)!r} ({error}): no file can have that name.") from error
    if not text.strip():
        raise BitnetError(f"The text {path} is empty: give a file with some text in it.")
    return text


@functools.cache
def _blocks() -> tuple[str, ...]:
    """Whole paragraphs, in the order of the topics' names, gathered into blocks of about `BLOCK_CHARACTERS`."""
    blocks: list[str] = []
    block: list[str] = []
    length = 0
    for paragraph in _paragraphs():
        block.append(paragraph)
        length += len(paragraph) + 2
        if length >= BLOCK_CHARACTERS:
            blocks.append("\n\n".join(block))
            block, length = [], 0
    return (*blocks, "\n\n".join(block)) if block else tuple(blocks)


def _paragraphs() -> list[str]:
    """Every paragraph of the topics at its first occurrence; two that differ in white space alone are the same."""
    kept: dict[str, str] = {}
    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name].strip()):
            kept.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    return list(kept.values())


def _is_held_out(block: int) -> bool:
    return block % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
