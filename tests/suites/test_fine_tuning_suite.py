"""Each broken warm-up, and training that does not lower the loss, turns the checks of its own name RED."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit_defect, checks_in
from tests.suites.folder_subjects import FolderSubject

SUITE = "test_fine_tuning.py"
RATE = "test_the_rate_rises_to_its_full_value_for_every_parameter"
LOSS = "test_the_loss_falls"

DEFECTS = {
    "warm-up that nothing reads": {RATE},
    "warm-up too long": {RATE},
    "warm-up that never ends": {RATE},
    "warm-up of some parameters": {RATE},
    "training without an effect": {RATE, LOSS},
    "training uphill": {LOSS},
}


@pytest.fixture(autouse=True)
def little_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suites.test_fine_tuning.TRAINING_STEPS", 8)


def run(folder: Path, defect: str) -> Audit:
    return audit_defect(folder, SUITE, FolderSubject, defect)


def test_a_right_warm_up_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.red == set(), done.messages()
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_broken_one_is_caught(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert done.red == DEFECTS[defect], done.messages()
