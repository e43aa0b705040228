"""Each way for a registry to fail turns the checks of its own name RED, and no others."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit_defect, checks_in
from tests.suites.registry_subject import RegistrySubject

SUITE = "test_registry.py"
TELLS = "test_a_version_tells_gates_digests_and_lineage"
ONCE = "test_the_same_artefact_is_registered_once"
REFUSED = "test_a_gate_that_failed_cannot_be_promoted"
PROMOTED = "test_what_passed_every_gate_is_promoted_and_found"
FETCHED = "test_what_is_fetched_is_what_was_pushed_and_loads"
DAMAGE = "test_damage_in_the_registry_is_not_handed_out"

DEFECTS = {
    "origin lost": {TELLS},
    "registered again each time": {ONCE, REFUSED},
    "scorecards lost": {ONCE},
    "gates not looked at": {REFUSED},
    "promotion without an effect": {PROMOTED},
    "files left out": {PROMOTED, FETCHED, DAMAGE},
    "damage not looked for": {DAMAGE},
}


def run(folder: Path, defect: str) -> Audit:
    return audit_defect(folder, SUITE, RegistrySubject, defect)


def test_a_careful_registry_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.red == set(), done.messages()
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_careless_one_is_caught_under_its_own_name(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert done.red == DEFECTS[defect], done.messages()
