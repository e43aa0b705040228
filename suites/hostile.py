"""Files of a good example spoilt at random, and what becomes of whoever opens them within bounds of time and memory."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from harness.limits import HangError, bounds

NUMBERS: Final = (-1, 0, 2**31, 2**40, 10**30, 1e308, -0.5)
TEXTS: Final = ("", "../../elsewhere", "/etc/passwd", "a\0b", "x\ny", "<script>", "x" * 3_000)
OTHERS: Final[tuple[Any, ...]] = (None, True, [], {}, [[[]]], {"a": {"b": 1}})
DEEP: Final = ("[" * 50_000, '{"a":' * 50_000)
ALIASES: Final = "a: &a [x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(9 * [f'*{before}'])}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
VALUES: Final = ("2024-99-99", "!!int x", "!!timestamp x", "0x_", "1" * 5_000, "[" * 500, "*a", "&a [*a]", '"\\ud800"')


@dataclass
class Tally:
    """What came of the openings so far: how many, and the crashes and hangs, each in words."""

    opened: int = 0
    refused: int = 0
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)

    def attempt(self, what: str, seconds: float, action: Callable[[], object]) -> None:
        """Open something: it is read, or refused with a ValueError or OSError; anything else is a crash."""
        self.opened += 1
        try:
            with bounds(seconds):
                action()
        except (ValueError, OSError) as error:
            self.refused += 1
            if not str(error).strip():
                self.crashes.append(f"{what}: refused without a word")
        except HangError:
            self.hangs.append(f"{what}: more than {seconds:g} s")
        except Exception as error:
            self.crashes.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")


def spoilt_json(text: str, dice: random.Random) -> str:
    """A document with a value replaced, or taken away, or something that is no document at all."""
    if dice.random() < 0.1:
        return dice.choice((*DEEP, text[: len(text) // 2], "", "null", "[]"))
    document = json.loads(text)
    holder, key = dice.choice(list(_places(document)))
    if dice.random() < 0.2:
        del holder[key]
    else:
        holder[key] = dice.choice((*NUMBERS, *TEXTS, *OTHERS))
    return json.dumps(document)


def spoilt_settings(text: str, dice: random.Random) -> str:
    """A file of settings with a line that YAML gives a meaning to."""
    lines = text.splitlines()
    key = dice.choice(lines).partition(":")[0]
    kept = [line for line in lines if not line.startswith(f"{key}:")]
    bad = dice.choice((ALIASES, *(f"{key}: {value}" for value in VALUES), "? [a]", "\0", "- 1", f"{'k' * 3_000}: 1"))
    return "\n".join([*kept, bad, ""])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield value, key
            yield from _places(each)
    elif isinstance(value, list):
        for index, each in enumerate(value[:3]):
            yield value, index
            yield from _places(each)
