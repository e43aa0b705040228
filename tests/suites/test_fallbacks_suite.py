"""Each fallback that a pipeline keeps silent about, or invents, turns the checks of its own name RED."""

from pathlib import Path

import pytest

from suites.test_fallbacks import PROVOKED
from tests.suites.audits import Audit, audit_defect, checks_in
from tests.suites.folder_subjects import FolderSubject

SUITE = "test_fallbacks.py"
NAMED = "test_a_fallback_that_was_taken_is_named"
SHORTFALL = "test_a_shortfall_says_what_was_used_instead"
NONE = "test_no_fallback_is_named_where_none_was_taken"

DEFECTS = {
    "silent about calibration_text": {NAMED},
    "silent about evaluation_text": {NAMED},
    "silent about calibration_samples": {NAMED, SHORTFALL},
    "silent about context_length": {NAMED, SHORTFALL},
    "silent about recovery": {NAMED},
    "fallbacks without figures": {SHORTFALL},
    "every fallback named always": {NONE},
}


@pytest.fixture(autouse=True)
def little_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suites.test_fallbacks.TRAINING_STEPS", 1)  # this subject's perplexity rises whatever it is


def run(folder: Path, defect: str) -> Audit:
    return audit_defect(folder, SUITE, FolderSubject, defect)


def test_a_pipeline_that_tells_everything_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.red == set(), done.messages()
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)
    assert {f"silent about {name}" for name in PROVOKED} <= DEFECTS.keys()


@pytest.mark.parametrize("defect", DEFECTS)
def test_silence_and_invention_are_caught(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert done.red == DEFECTS[defect], done.messages()


def test_only_the_fallback_that_is_kept_silent_is_blamed(tmp_path: Path) -> None:
    red = run(tmp_path, "silent about recovery").with_outcome("failed", "error")
    assert red == {f"{NAMED}[recovery]"}
