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


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_answers_differently(mutant: Mutant, tmp_path: Path) -> None:
    wrong = mutant.factory(tmp_path)
    right = catalogue.family_of(mutant).clean(tmp_path)
    if isinstance(vars(type(wrong)).get("declaration"), Declaration):  # asked about the variants that the mutant has
        right.declaration = replace(right.declaration, variants=wrong.declaration.variants)
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    assert answers(wrong, mutant.area, one) != answers(right, mutant.area, other)


@pytest.mark.parametrize("area", ["quantizer", "packing", "ste", "compression"])
def test_the_clean_subject_answers_the_same_twice(area: str, tmp_path: Path) -> None:
    (family,) = (each for each in catalogue.families() if each.area == area)
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        found.append(answers(family.clean(tmp_path), area, tmp_path / name))
    assert found[0] == found[1]
