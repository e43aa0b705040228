"""Every defect is one: asked the same, the mutant answers differently from the subject that is right by definition."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.mutants import catalogue
from harness.mutants.mutant import Mutant
from harness.mutants.trace import digest
from harness.subject import Declaration
from tests.harness.mutants.probes import PROBES

MUTANTS = [mutant for mutant in catalogue.all_mutants() if mutant.area in PROBES]


def answers(subject, area: str, folder: Path) -> list[bytes]:
    """Digests; a subject that breaks down says so and no more."""
    found: list[bytes] = []
    try:
        for answer in PROBES[area](subject, folder):
            found.append(digest(answer))
    except Exception as error:
        found.append(type(error).__name__.encode())
    return found


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory):
    """What the clean subject of a mutant answers when it is asked about the variants that the mutant has."""

    asked: dict[tuple, list[bytes]] = {}

    def ask_once(mutant: Mutant, variants) -> list[bytes]:
        family = catalogue.family_of(mutant)
        key = (PROBES[mutant.area], family.clean_name, variants)
        if key not in asked:
            folder = tmp_path_factory.mktemp("clean")
            subject = family.clean(folder)
            if variants is not None:
                subject.declaration = replace(subject.declaration, variants=variants)
            asked[key] = answers(subject, family.area, folder)
        return asked[key]

    return ask_once


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_answers_differently(mutant: Mutant, tmp_path: Path, right) -> None:
    wrong = mutant.factory(tmp_path)
    declared = vars(type(wrong)).get("declaration")
    expected = right(mutant, declared.variants if isinstance(declared, Declaration) else None)
    assert answers(wrong, mutant.area, tmp_path) != expected


@pytest.mark.parametrize("area", ["quantizer", "packing", "ste", "compression"])
def test_the_clean_subject_answers_the_same_twice(area: str, tmp_path: Path) -> None:
    (family,) = (each for each in catalogue.families() if each.area == area)
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        found.append(answers(family.clean(tmp_path), area, tmp_path / name))
    assert found[0] == found[1]
