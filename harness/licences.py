"""What the installed packages that a project depends on state of their licences, in their metadata.

A package states it as an SPDX expression (`License-Expression`), else by classifiers, else in the field `License`,
which is free text and of which the first line is read. What `harness.supply_chain.allowed` cannot read has to be looked
up in the licence file, and is then written down in pyproject.toml (`known`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from harness.errors import AuditError
from harness.files import read_text

Field = Literal["License-Expression", "Classifier", "License"]
FIELDS: Final[tuple[Field, ...]] = ("License-Expression", "Classifier", "License")


@dataclass(frozen=True)
class Dependency:
    """An installed package: what it states, in which field of its metadata, and its licence files, by name.

    `optional`: only extras ask for it. `field` is "nothing" where it states nothing, "not installed" where a
    requirement that is no extra's is not met.
    """

    name: str
    stated: tuple[str, ...]
    field: Field | Literal["nothing", "not installed"]
    files: tuple[str, ...]
    optional: bool


def dependencies(pyproject: Path) -> tuple[Dependency, ...]:
    """The packages that a project needs, and those that their own requirements and its extras bring, by name.

    What only extras ask for is left out where it is not installed.

    Raises:
        AuditError: pyproject.toml is not one, or has requirements that cannot be read.
    """
    required, extras, own = _requirements(pyproject)
    needed = _closure(required)
    found = {**_closure(each for each in extras if canonicalize_name(each.name) != own), **needed}
    return tuple(
        _dependency(name, package, name not in needed)
        for name, package in sorted(found.items())
        if package is not None or name in needed
    )


def _requirements(pyproject: Path) -> tuple[list[Requirement], list[Requirement], str]:
    """What a project requires, what its extras require besides, and its own name."""
    try:
        project: Any = tomllib.loads(read_text(pyproject, "the requirements", "give the project's pyproject.toml"))
        project = project["project"]
        extras = [text for texts in project.get("optional-dependencies", {}).values() for text in texts]
        required = [Requirement(text) for text in project.get("dependencies", ())]
        return required, [Requirement(text) for text in extras], canonicalize_name(project["name"])
    except (KeyError, TypeError, AttributeError, tomllib.TOMLDecodeError, InvalidRequirement) as error:
        raise AuditError(f"{pyproject} has no requirements that can be read ({error}); give the project's") from error


def _closure(requirements: Iterable[Requirement]) -> dict[str, Distribution | None]:
    """The packages that requirements bring, by their canonical name; None for those that are not installed."""
    found: dict[str, Distribution | None] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(each, "") for each in requirements]
    while waiting:
        requirement, of_extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = _installed(name)
        package = found[name]
        for extra in {"", *requirement.extras}:
            if package is not None and (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(Requirement(text), extra) for text in package.requires or ()]
    return found


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _dependency(name: str, package: Distribution | None, optional: bool) -> Dependency:
    if package is None:
        return Dependency(name, (), "not installed", (), optional)
    metadata = package.metadata
    files = tuple(metadata.get_all("License-File") or _licence_files(package))
    for field in FIELDS:
        stated = tuple(_stated(metadata.get_all(field) or (), field))
        if stated:
            return Dependency(name, stated, field, files, optional)
    return Dependency(name, (), "nothing", files, optional)


def _stated(values: Iterable[str], field: str) -> Iterator[str]:
    for value in values:
        text = value.strip().partition("\n")[0]
        if text and (field != "Classifier" or text.startswith("License ::")):
            yield text


def _licence_files(package: Distribution) -> Iterator[str]:
    """Those that the metadata does not name."""
    for file in package.files or ():
        if ".dist-info" in str(file) and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            yield file.name
