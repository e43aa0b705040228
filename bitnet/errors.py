"""The one error type that a user of `bitnet` sees."""

import errno
from typing import Final

from pydantic import ValidationError

LONGEST: Final = 200
"""Characters of foreign text that are quoted within a sentence."""
LONGEST_SENTENCE: Final = 4_000
"""Characters of a sentence that are shown: paths alone may have hundreds."""


class BitnetError(ValueError):
    """Bad input or an unmet precondition, told in one sentence that names the input and the remedy.

    The command line prints the sentence and exits with code 2.
    """


def out_of_memory(error: BaseException | None) -> bool:
    """Whether memory has run out, by `error` or by what caused it: Python, the system, torch or a library says so."""
    if error is None:
        return False
    told = isinstance(error, MemoryError) or "allocate memory" in str(error)
    return told or getattr(error, "errno", None) == errno.ENOMEM or out_of_memory(error.__cause__)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Foreign text for use within a sentence: on one line, cut, and with what a terminal would obey written out."""
    told = text if len(text) <= longest else f"{text[:longest]}..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in told)


def first_line(error: BaseException, longest: int = LONGEST) -> str:
    """What `error` says, cut to its first line, for quoting a library's complaint within one sentence."""
    return shortened((str(error).strip().splitlines() or [type(error).__name__])[0], longest).rstrip(".: ")


def first_complaint(error: ValidationError) -> str:
    """The first thing that a schema finds wrong, for use within a sentence: 'layers.0.shape' (Field required)."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the top level"
    return f"'{shortened(where)}' ({shortened(first['msg'])})"
