"""The texts that models are scored on: short prose written for this purpose, and a held-out cut of Python's own manual.

None of them needs a download. What the built-in models are trained and calibrated on never includes the held-out cut.
"""

import functools
import re
from pydoc_data.topics import topics

PROSE = """\
The lighthouse keeper wrote one line in the log every evening. Most lines were about the weather, because nothing else \
happened on the rock, and because the company that paid him asked for nothing more. In the third winter he began to \
add what he had seen: a seal asleep on the landing stage, a crate of oranges broken open by the tide, a boat with no \
name that passed too close and did not answer the lamp.

When the inspector came in spring he read the whole book in one afternoon. He said that the entries were irregular. \
Then he asked, quietly, whether the boat had ever come back.
"""

UNUSUAL = (
    "Caf\u00e9 \u00abZ\u00fcrich\u00bb \u2014 na\u00efve fa\u00e7ade,\t\t3\u00a0\u00d7\u00a04\u202f=\u202f12\u20ac. "
    "\u0414\u043e\u0431\u0440\u044b\u0439 \u0434\u0435\u043d\u044c!   \u4f60\u597d\uff0c\u4e16\u754c\u3002 "
    "\U0001f40d\U0001f9ee e\u0301 is not \u00e9.\r\n\r\n   Indented    by  odd\u2003spaces,\n\n\n"
    "then a line that ends in blanks   \n\tand\x0ba vertical tab; "
    "\u05e9\u05dc\u05d5\u05dd, \u0645\u0631\u062d\u0628\u0627.\n  \n"
)
"""Scripts of one to four bytes a character, combining marks, tabs, and white space at the end of lines and text."""

BLOCK_CHARACTERS = 2_000
HELD_OUT_EVERY = 10


@functools.cache
def held_out_text() -> str:
    """Every tenth block of the language reference in ``pydoc_data.topics``, about 34,000 characters.

    The topics are read in the order of their names; a paragraph that occurs again (white space apart) is dropped, so
    that nothing held out also stands in the rest; whole paragraphs are gathered into blocks of at least 2,000
    characters, and the tenth, twentieth, ... block is held out.
    """
    return "\n\n".join(_blocks()[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])


@functools.cache
def whole_text() -> str:
    """The held-out text and then all the rest, some 370,000 characters.

    It is for comparing two runs of one model, where it does not matter what the model has seen before.
    """
    rest = (block for index, block in enumerate(_blocks(), 1) if index % HELD_OUT_EVERY)
    return "\n\n".join((held_out_text(), *rest))


@functools.cache
def _blocks() -> tuple[str, ...]:
    blocks: list[list[str]] = [[]]
    seen: set[tuple[str, ...]] = set()
    for paragraph in (part for name in sorted(topics) for part in re.split(r"\n\s*\n", topics[name].strip())):
        words = tuple(paragraph.split())
        if words in seen:
            continue
        seen.add(words)
        if sum(len(part) + 2 for part in blocks[-1]) >= BLOCK_CHARACTERS:
            blocks.append([])
        blocks[-1].append(paragraph.strip("\n"))
    return tuple("\n\n".join(block) for block in blocks)


def held_out_excerpt(characters: int) -> str:
    """The beginning of :func:`held_out_text`, cut at the end of a line at or before that many characters."""
    cut = held_out_text()[:characters]
    return cut[: cut.rfind("\n") + 1] or cut


def documents_of(text: str, characters: int) -> list[str]:
    """A text cut at ends of lines into documents of at least that many characters; joined, they are the text again."""
    documents = [""]
    for line in text.splitlines(keepends=True):
        if len(documents[-1]) >= characters:
            documents.append("")
        documents[-1] += line
    if len(documents) > 1 and len(documents[-1]) < characters:
        documents[-2:] = ["".join(documents[-2:])]
    return documents


def scoring_texts() -> dict[str, str]:
    """Three short documents by name: prose, unusual characters and white space, and technical English."""
    return {"prose": PROSE, "unusual": UNUSUAL, "manual": held_out_excerpt(900)}
