"""Multiple choice over facts of the standard library's documentation: a description, and four names.

Modules and built-in functions are described by the first sentence of their own documentation, as this Python has it.
Modules are read as text and not imported.
"""

import ast
import builtins
import importlib.util
import inspect
import random
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

CHOICES: Final = 4
_LENGTHS: Final = range(20, 161)
_SEED: Final = 0
#: Modules that are no part of the library that a program uses, or that are a joke.
_LEFT_OUT: Final = frozenset({"antigravity", "idlelib", "lib2to3", "pydoc_data", "test", "this", "turtledemo"})


def dataset(**_: Any) -> Mapping[str, Any]:
    """For lm-eval: {"test": the documents}, the same ones for the same version of Python."""
    from datasets import Dataset

    return {"test": Dataset.from_list(list(documents()))}


def documents() -> Iterator[dict[str, Any]]:
    """Each with `question`, `choices` (four names of one kind) and `answer`, the place of the right one."""
    dice = random.Random(_SEED)
    for kind, facts in (("module", dict(_modules())), ("built-in function", dict(_functions()))):
        for name, summary in facts.items():
            others = dice.sample([other for other in facts if other != name], CHOICES - 1)
            choices = [name, *others]
            dice.shuffle(choices)
            question = f'The {kind} of Python\'s standard library that is documented as "{summary}" has the name'
            yield {"question": question, "choices": choices, "answer": choices.index(name)}


def _modules() -> Iterator[tuple[str, str]]:
    for name in sorted(sys.stdlib_module_names - _LEFT_OUT):
        if name.startswith("_"):
            continue
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            yield from _fact(name, _docstring(Path(spec.origin)))


def _docstring(source: Path) -> str | None:
    """What a file begins with, if it is a string. Parsing all of every module would take seconds."""
    with source.open(encoding="utf-8") as lines:
        for token in tokenize.generate_tokens(lines.readline):
            if token.type == tokenize.STRING:
                return str(ast.literal_eval(token.string))
            if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING):
                return None
    return None


def _functions() -> Iterator[tuple[str, str]]:
    for name in sorted(vars(builtins)):
        if not name.startswith("_") and inspect.isbuiltin(getattr(builtins, name)):
            yield from _fact(name, inspect.getdoc(getattr(builtins, name)))


def _fact(name: str, documentation: str | None) -> Iterable[tuple[str, str]]:
    """The name and the first sentence, where that is of a good length and does not give the name away."""
    paragraph = " ".join((documentation or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) ", paragraph)[0].rstrip(".")
    if len(sentence) in _LENGTHS and name.lower() not in sentence.lower():
        yield name, sentence
