"""All mutants, by id and by area."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from harness.errors import AuditError
from harness.mutants.families import (
    activations,
    audit,
    benchmark,
    calibration,
    checkpoint,
    command_line,
    config,
    decoder,
    ecosystem,
    faults,
    gates,
    handoff,
    interop,
    kernels,
    models,
    optimizer,
    packing,
    perplexity,
    pipeline,
    published,
    quality,
    quantizer,
    repositories,
    scale,
    security,
    sparsity,
    ste,
)
from harness.mutants.mutant import Family, Mutant
from harness.mutants.trace import watched
from harness.subject import Subject

_MODULES = (
    quantizer,
    sparsity,
    activations,
    packing,
    ste,
    optimizer,
    published,
    calibration,
    perplexity,
    gates,
    config,
    checkpoint,
    scale,
    quality,
    handoff,
    ecosystem,
    interop,
    pipeline,
    models,
    kernels,
    decoder,
    benchmark,
    command_line,
    faults,
    security,
    repositories,
    audit,
)


@cache
def families() -> tuple[Family, ...]:
    """Every family; raises AuditError where two mutants share an id."""
    found = tuple(chain.from_iterable(module.FAMILIES for module in _MODULES))
    ids = [mutant.id for family in found for mutant in family.mutants]
    if twice := {each for each in ids if ids.count(each) > 1}:
        raise AuditError(f"two mutants are called {', '.join(sorted(twice))}; rename one")
    return found


@cache
def all_mutants() -> tuple[Mutant, ...]:
    """Every mutant that can be had here, by family; `absent` has the others."""
    return tuple(mutant for family in families() for mutant in family.mutants if not _missing(mutant))


@cache
def absent() -> Mapping[str, str]:
    """The checks that are shown to no mutant here, and why: what all their mutants need is not installed."""
    shown = {f"{mutant.stage.suite}::{check}" for mutant in all_mutants() for check in mutant.checks}
    return {
        name: f"{' and '.join(_missing(mutant))} not installed, which its mutants need"
        for family in families()
        for mutant in family.mutants
        for name in (f"{mutant.stage.suite}::{check}" for check in mutant.checks)
        if name not in shown
    }


def _missing(mutant: Mutant) -> list[str]:
    return [name for name in mutant.stage.needs if find_spec(name) is None]


def family_of(mutant: Mutant) -> Family:
    """The family that a mutant belongs to."""
    return next(family for family in families() if mutant in family.mutants)


def areas() -> tuple[str, ...]:
    """The names of all areas."""
    return tuple(dict.fromkeys(family.area for family in families()))


def select(only: str | None = None, area: str | None = None) -> tuple[Mutant, ...]:
    """The mutants whose id matches a glob and that belong to an area; raises AuditError where there are none."""
    if area is not None and area not in areas():
        raise AuditError(f"there is no area {area!r}; the areas are {', '.join(areas())}")
    found = tuple(
        mutant
        for mutant in all_mutants()
        if (only is None or fnmatchcase(mutant.id, only)) and area in (None, mutant.area)
    )
    if not found:
        raise AuditError(f"no mutant matches {only!r}; ids look like {all_mutants()[0].id}, and * is allowed")
    return found


def sample(mutants: Sequence[Mutant], count: int, seed: int) -> tuple[Mutant, ...]:
    """So many of the mutants, drawn by a seed, in their order; raises AuditError for less than one."""
    if count < 1:
        raise AuditError(f"a sample of {count} mutants says nothing; draw at least one")
    drawn = set(random.Random(seed).sample(range(len(mutants)), min(count, len(mutants))))
    return tuple(mutant for index, mutant in enumerate(mutants) if index in drawn)


def make(name: str, folder: Path) -> Subject:
    """The mutant of that id, or the clean subject of the area of that name, watched where a recording is on."""
    for family in families():
        if family.area == name:
            return watched(family.clean(folder), folder)
        for mutant in family.mutants:
            if mutant.id == name:
                return watched(mutant.factory(folder), folder)
    raise AuditError(f"there is no mutant {name!r}; `bitnet-audit mutants` lists them")
