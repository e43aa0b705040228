"""What a mutant is: a subject with one defect, the suite that it is shown to, and the criterion that must catch it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.errors import AuditError
from harness.evidence import Profile
from harness.subject import Subject

Factory = Callable[[Path], Subject]
"""Makes a subject; the folder is there for files that it needs."""


@dataclass(frozen=True)
class Stage:
    """How a suite is set up for small subjects.

    `models` are names of small models in `suites.stage` and `props` names of what it changes in the suite for the run:
    shorter texts, a clock that counts forward passes, an instrument that measures wrongly. `only` selects checks by
    name, as pytest's ``-k`` does. `needs` are modules without which it cannot be had. `judges_timings`: the clock is a
    prop that is the same in each run, and the targets hold for small subjects, so that figures of timings count.
    """

    suite: str
    models: tuple[str, ...] = ()
    profile: Profile = "quick"
    props: tuple[str, ...] = ()
    only: str = ""
    needs: tuple[str, ...] = ()
    judges_timings: bool = False

    @property
    def whole(self) -> Stage:
        """The same with all checks."""
        return replace(self, only="")


@dataclass(frozen=True)
class Mutant:
    """A subject with one defect.

    `checks` are the checks that turn RED, the first one being about what is broken; `criterion` is the row that it
    gives evidence for. `prop`: the defect is in an instrument that the suite measures with, and the subject is the
    clean one. `crashes`: the defect is that the subject breaks down, so that a check which cannot be carried
    out has caught it.
    """

    id: str
    title: str
    area: str
    criterion: str
    checks: tuple[str, ...]
    stage: Stage
    factory: Factory
    prop: str = ""
    crashes: bool = False


@dataclass(frozen=True)
class Family:
    """Defects of one kind in a clean subject, shown to one suite; families with one `clean_name` share the subject."""

    area: str
    stage: Stage
    clean: Factory
    clean_name: str
    mutants: tuple[Mutant, ...]


@dataclass(frozen=True)
class Defect:
    """An entry of a family's table beyond its checks: a stage of its own, a prop that spoils the instrument."""

    checks: tuple[str, ...]
    stage: Stage | None = None
    prop: str = ""
    crashes: bool = False


Entry = tuple[str, ...] | Defect


def family_of_classes(
    area: str, stage: Stage, clean: type, criteria: Mapping[str, str], table: Mapping[type, Entry]
) -> Family:
    """A family whose defects are classes, each with a docstring that says what is broken.

    `criteria` gives the criterion by check; "" the one for all that it does not name.
    """
    mutants = [
        _mutant(area, stage, criteria, _words(cls), _title(cls), entry, _instance(cls)) for cls, entry in table.items()
    ]
    return Family(area, stage, _instance(clean), clean.__name__, tuple(mutants))


def family_of_words(
    area: str,
    stage: Stage,
    make: Callable[[str, Path], Subject],
    criteria: Mapping[str, str],
    table: Mapping[str, Entry],
) -> Family:
    """A family whose defects are words that a subject is made with; without any ("") it is clean."""
    mutants = [
        _mutant(area, stage, criteria, words, words, entry, partial(make, words)) for words, entry in table.items()
    ]
    return Family(area, stage, partial(make, ""), area, tuple(mutants))


def criterion_of(check: str, criteria: Mapping[str, str]) -> str:
    """The criterion that a check gives evidence for, from a family's table."""
    found = criteria.get(check, criteria.get(""))
    if found is None:
        raise AuditError(f"no criterion is given for the check {check}; add it to the family's table")
    return found


def _mutant(
    area: str, stage: Stage, criteria: Mapping[str, str], words: str, title: str, entry: Entry, factory: Factory
) -> Mutant:
    defect = entry if isinstance(entry, Defect) else Defect(entry)
    return Mutant(
        id=f"{area}/{_slug(words)}",
        title=title,
        area=area,
        criterion=criterion_of(defect.checks[0], criteria),
        checks=defect.checks,
        stage=defect.stage or stage,
        prop=defect.prop,
        factory=factory,
        crashes=defect.crashes,
    )


def _instance(cls: type) -> Factory:
    """A factory that needs no folder."""
    return lambda _: cls()


def _words(cls: type) -> str:
    """The name of a class as words, such as "nan taken for zero"."""
    name = cls.__name__.replace("NaN", "Nan").replace("Conv1D", "Conv1d")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).lower()


def _title(cls: type) -> str:
    lines: Sequence[str] = (cls.__dict__.get("__doc__") or "").strip().splitlines()
    if not lines:
        raise AuditError(f"the defect {cls.__name__} does not say what is broken; give it a docstring")
    return lines[0]


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
