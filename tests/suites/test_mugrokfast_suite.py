"""Each mistake in a filtered Muon turns the checks of its own name RED, and no others."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit, audit_defect, checks_in
from tests.suites.optimizer_subjects import OptimizerSubject

SUITE = "test_mugrokfast.py"
GAIN = "test_gain_of_the_filter"
STEPS = "test_three_steps_are_those_of_the_reference"
DECAY = "test_weight_decay_is_decoupled"
ORTHOGONAL = "test_updates_of_hidden_matrices_are_nearly_orthogonal"
SIZE = "test_size_of_the_gradient_does_not_matter_to_a_hidden_matrix"
ROUTES = "test_each_parameter_gets_the_update_of_its_kind"
TIED = "test_tied_parameters_are_updated_once"
CLIP = "test_updates_of_queries_and_keys_are_clipped_per_head"
LATENT = "test_updates_go_to_the_latent_weights"
RATE = "test_a_learning_rate_schedule_reaches_every_parameter"
MATRICES = {STEPS, ORTHOGONAL, SIZE, ROUTES, LATENT}

MISTAKES = {
    "no filter": {GAIN, STEPS, TIED},
    "average for the gradient": {GAIN, STEPS, TIED},
    "average starts at the gradient": {STEPS, TIED},
    "no look-ahead": {STEPS},
    "four steps": MATRICES,
    "cubic steps": MATRICES,
    "gradient not normalised": {*MATRICES, CLIP, RATE, DECAY},  # it overflows to NaN
    "tall matrices not orthogonalised": MATRICES,
    "scale of the wrong side": MATRICES,
    "moments not corrected": {STEPS, ROUTES, TIED},
    "Muon for every matrix": {ROUTES, TIED},
    "AdamW for everything": {*MATRICES, CLIP},
    "biases left out": {STEPS, ROUTES, RATE, DECAY},
    "tied parameters updated twice": {ROUTES, TIED},
    "no clip": {ROUTES, CLIP},
    "decay through the gradient": {DECAY},
    "decay of the matrices alone": {DECAY},
    "weights become codes": {*MATRICES, RATE, DECAY},
    "rate fixed at the start": {RATE},
    "rate of the hidden matrices alone": {RATE},
}


def run(folder: Path, mistake: str, only: str = "not row and not column and not 0.9-0.5 and not 0.98-2.0") -> Audit:
    return audit_defect(folder, SUITE, OptimizerSubject, mistake, only=only)


def test_the_right_optimizer_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "", only="")
    assert done.red == set(), done.messages()
    assert set.union(*MISTAKES.values()) == checks_in(SUITE)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught_under_its_own_name(tmp_path: Path, mistake: str) -> None:
    done = run(tmp_path, mistake)
    assert done.red == MISTAKES[mistake], done.messages()


def test_a_subject_without_an_optimizer_is_not_applicable(tmp_path: Path) -> None:
    done = audit(tmp_path, SUITE, "from tests.suites.subjects import BareSubject as factory\n")
    assert {record.outcome for record in done.records} == {"not_applicable"}
