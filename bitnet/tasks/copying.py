"""A task that only attention solves: a list of names in random order, begun anew; which name comes next?

All choices stand in the text equally often and none is likelier than another by itself, so a model that does not look
back at what came after the last name before has one chance in four.
"""

import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

DOCUMENTS: Final = 100
NAMES: Final = 8
CHOICES: Final = 4
_SEED: Final = 0


def dataset(**_: Any) -> Mapping[str, Any]:
    """For lm-eval: {"test": the documents}, the same ones for the same version of Python."""
    from datasets import Dataset

    return {"test": Dataset.from_list(list(documents()))}


def documents() -> Iterator[dict[str, Any]]:
    """Each with `text`, `choices` (names from the list) and `answer`, the place of the right one."""
    dice = random.Random(_SEED)
    words = sorted(name for name in sys.stdlib_module_names if name.isalpha() and name.islower() and len(name) > 2)
    for _ in range(DOCUMENTS):
        listed = dice.sample(words, NAMES)
        place = dice.randrange(2, NAMES - CHOICES + 1)
        others = dice.sample(listed[place + 1 :], CHOICES - 1)  # as often in the text as the right one
        choices = [listed[place], *others]
        dice.shuffle(choices)
        text = f"{' '.join(listed)}\n{' '.join(listed)}\n{' '.join(listed[:place])}"
        yield {"text": text, "choices": choices, "answer": choices.index(listed[place])}
