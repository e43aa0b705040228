"""What was published is a row of its own: a subject that declares something else, and does it, fails there alone."""

from pathlib import Path

import pytest

from tests.suites import published_defects as subjects
from tests.suites.audits import audit_class, checks_in
from tests.suites.optimizer_subjects import OptimizerSubject
from tests.suites.subjects import BareSubject

SUITE = "test_published.py"
WEIGHTS = "test_weights_are_quantized_as_published"
ACTIVATIONS = "test_activations_are_quantized_as_published"
GRADIENTS = "test_gradients_are_estimated_as_published"
UPDATES = "test_updates_are_made_in_the_published_order"

DECLARED_ELSEWHERE = {
    subjects.LeastSquaresScale: (WEIGHTS, "test_quantization.py", "declared"),
    subjects.FourBitActivations: (ACTIVATIONS, "test_activations.py", ""),
    subjects.ClippedEstimator: (GRADIENTS, "test_ste.py", "declared_surrogate"),
    subjects.FilterLastSubject: (UPDATES, "test_mugrokfast.py", "three_steps and filtered and wide"),
}


@pytest.mark.parametrize("subject", [subjects.Sound, OptimizerSubject])
def test_a_subject_that_does_what_was_published_passes(tmp_path: Path, subject: type) -> None:
    done = audit_class(tmp_path, SUITE, subject)
    assert done.red == set(), done.messages()
    assert len(done.with_outcome("passed")) == (3 if subject is subjects.Sound else 1)


@pytest.mark.parametrize("subject", DECLARED_ELSEWHERE)
def test_another_way_that_is_declared_fails_what_was_published_and_no_more(tmp_path: Path, subject: type) -> None:
    check, suite, only = DECLARED_ELSEWHERE[subject]
    published = audit_class(tmp_path / "published", SUITE, subject)
    assert published.red == {check}, published.messages()
    declared = audit_class(tmp_path / "declared", suite, subject, only=only)
    assert declared.red == set(), declared.messages()
    assert declared.with_outcome("passed")


def test_every_check_can_fail() -> None:
    assert {check for check, *_ in DECLARED_ELSEWHERE.values()} == checks_in(SUITE)


def test_nothing_was_published_of_a_subject_that_declares_no_such_rule(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}, done.messages()
