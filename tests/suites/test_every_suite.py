"""Every check is seen to fail: `bitnet-audit mutants` shows all of them all mutants, these tests one for each suite."""

from pathlib import Path

import pytest

from harness.mutants import catalogue
from harness.mutants.audition import audition
from harness.mutants.campaign import every_check
from harness.mutants.mutant import Mutant, Stage
from harness.mutants.reference.bare import BareSubject
from tests.suites.audits import audit_class, shared


def representatives() -> list[Mutant]:
    """The first mutant of each area, but for the one that starts processes which take longer than all others."""
    first = {mutant.area: mutant for mutant in reversed(catalogue.all_mutants())}
    return [first[area] for area in catalogue.areas() if area in first and area != "command-line"]


def test_every_check_of_every_suite_is_named_by_a_mutant() -> None:
    mutants = [mutant for family in catalogue.families() for mutant in family.mutants]
    assert {f"{mutant.stage.suite}::{check}" for mutant in mutants for check in mutant.checks} == set(every_check())


def test_checks_are_set_aside_only_where_something_is_not_installed() -> None:
    named = {f"{mutant.stage.suite}::{check}" for mutant in catalogue.all_mutants() for check in mutant.checks}
    assert set(every_check()) - named == set(catalogue.absent())
    assert all(reason.endswith("not installed, which its mutants need") for reason in catalogue.absent().values())


@pytest.mark.parametrize("mutant", representatives(), ids=lambda mutant: mutant.id)
def test_a_mutant_turns_its_own_checks_red_and_no_others(tmp_path: Path, mutant: Mutant) -> None:
    props = (mutant.prop,) if mutant.prop else ()
    done = audition(mutant.stage, mutant.id, tmp_path / "run", shared(tmp_path), props=props)
    expected = {f"{mutant.stage.suite}::{check}" for check in mutant.checks}
    assert done.red().keys() == expected, [each for each in done.verdicts if each.cell]
    caught = [each for each in done.verdicts if each.cell in ("assertion", "figure")]
    assert mutant.criterion in {name for each in caught for name in each.criteria}


AREAS = ("activations", "ste", "gates", "kernels", "recovery", "registry", "tracking", "dashboard", "code-quality")


@pytest.mark.parametrize("area", AREAS)
def test_a_clean_subject_passes_every_check(tmp_path: Path, area: str) -> None:
    (family,) = (each for each in catalogue.families() if each.area == area)
    done = audition(family.stage.whole, area, tmp_path / "run", shared(tmp_path))
    assert {verdict.outcome for verdict in done.verdicts} == {"passed"}, done.verdicts
    assert done.red() == {}


def test_a_subject_without_capabilities_is_not_applicable_to_any_suite(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", Stage("", ("narrow",), "full"), BareSubject)
    assert len({each.nodeid.partition("::")[0] for each in done.records}) > 20
    assert {each.outcome for each in done.records} <= {"not_applicable", "skipped"}, done.messages()
    assert all("llama" in each.message for each in done.records if each.outcome == "skipped"), done.messages()
