"""Each mistake in resuming a training turns the checks of its own name RED."""

from pathlib import Path

import pytest

from tests.suites.audits import audit, audit_defect, checks_in
from tests.suites.resuming_subject import ResumingSubject

SUITE = "test_checkpoints.py"
SAME = "test_an_interrupted_training_ends_as_an_uninterrupted_one"
EFFECT = "test_training_changes_what_is_compared"
DAMAGE = "test_damage_is_noticed"
DATA = "test_state_holds_data_alone"

DEFECTS = {
    "optimizer forgotten": {SAME},
    "random state forgotten": {SAME},
    "steps taken again": {SAME},
    "training without an effect": {EFFECT},
    "damage not noticed": {DAMAGE},
    "pickled": {DATA},
}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """All but the first test resume in this process, which takes seconds less and shares no state of a training."""
    if "defect" not in request.fixturenames:
        return

    def resume(spec, packed, samples, steps, folder):
        model = ResumingSubject(request.getfixturevalue("defect")).fine_tune_resumably(
            packed, samples, steps, folder, None
        )
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    monkeypatch.setattr("suites.test_checkpoints.resume_in_fresh_process", resume)


def test_a_right_one_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = audit_defect(tmp_path, SUITE, ResumingSubject, "")
    assert done.red == set(), done.messages()
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_broken_one_is_caught(tmp_path: Path, defect: str) -> None:
    done = audit_defect(tmp_path, SUITE, ResumingSubject, defect)
    assert done.red == DEFECTS[defect], done.messages()


def test_a_subject_that_does_not_resume_is_not_applicable(tmp_path: Path) -> None:
    done = audit(tmp_path, SUITE, "from tests.suites.subjects import BareSubject as factory\n")
    assert {record.outcome for record in done.records} == {"not_applicable"}
