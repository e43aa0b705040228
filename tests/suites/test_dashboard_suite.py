"""Each fault of a dashboard turns the checks of its own name RED, and no others."""

from pathlib import Path

import pytest

from suites.test_dashboard import is_shown
from tests.suites.audits import Audit, audit, audit_defect, checks_in
from tests.suites.dashboard_subjects import DashboardSubject

SUITE = "test_dashboard.py"
STARTS = "test_it_starts_and_answers_with_a_page"
ALONE = "test_no_other_machine_reaches_it"
FIGURES = "test_the_figures_of_the_scorecard_at_hand_are_shown"
ROWS = "test_every_row_is_shown_with_its_status_in_words"
RUN = "test_the_figures_of_a_run_are_shown"
EMPTY = "test_without_artefacts_every_page_says_something"

DEFECTS = {
    "does not start": {STARTS, ALONE},
    "an error for a page": {STARTS},
    "no page": {STARTS},
    "listens everywhere": {ALONE},
    "figures by heart": {FIGURES, ROWS},
    "figures left out": {FIGURES},
    "colours without words": {ROWS},
    "a run's perplexity is another's": {RUN},
    "breaks where nothing is": {FIGURES, ROWS, RUN, EMPTY},
    "silent where nothing is": {EMPTY},
}


def run(folder: Path, defect: str) -> Audit:
    # Only the check of a run compresses a model, which takes longest.
    names = DEFECTS.get(defect, {""})
    return audit_defect(
        folder, SUITE, DashboardSubject, defect, only="" if RUN in names or not defect else f"not {RUN}"
    )


def test_a_right_dashboard_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.red == set(), done.messages()
    assert done.with_outcome("passed") == checks_in(SUITE)
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_caught_under_its_own_name(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert done.red == DEFECTS[defect], done.messages()


def test_what_needs_a_library_that_is_not_installed_is_not_measured(tmp_path: Path) -> None:
    done = audit_defect(tmp_path, SUITE, DashboardSubject, "a requirement is missing", only="starts")
    assert {record.outcome for record in done.records} == {"skipped"}
    assert "a_library" in done.messages()


def test_a_subject_without_a_dashboard_is_not_applicable(tmp_path: Path) -> None:
    done = audit(tmp_path, SUITE, "from tests.suites.subjects import BareSubject as factory\n")
    assert {record.outcome for record in done.records} == {"not_applicable"}


def test_numbers_are_found_as_people_write_them() -> None:
    assert is_shown(0.31734, "zeros 31.7 %")
    assert is_shown(12345.0, "12,345 tokens")
    assert is_shown(1.5e7, "about 1.5e7")
    assert not is_shown(0.31734, "0.316 31.5 %")
