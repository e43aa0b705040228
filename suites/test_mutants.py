"""The audit itself: every check has been seen to turn RED on a subject that is wrong, and none on one that is right.

Mutants are about the checks, not about the subject under audit: they are made of small reference subjects, whoever is
audited. These rows say how far the others can be trusted; they are measured in the project's own audit, and left out of
those of other people's libraries.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from typing import Final

import pytest

from harness.environment import Commit, describe_commit
from harness.evidence import Evidence, Profile
from harness.mutants.matrix import Matrix, from_json, summary
from harness.subject import Subject
from suites.repository import refuse_other_projects

SAMPLE: Final = 9
QUICK: Final = ("--sample", str(SAMPLE), "--jobs", "1", "--seeds", "1")
"""Half a minute on one core."""


@pytest.fixture(scope="module")
def matrix(subject: Subject, profile: Profile, seed: int) -> Matrix:
    """What became of all mutants, or in the quick profile of a sample that the run's seed and the commit draw."""
    refuse_other_projects(subject, "mutants")
    return run_mutants(profile, sample_seed(seed, describe_commit()))


def sample_seed(seed: int, commit: Commit | None) -> int:
    """What a sample is drawn by: another one for each commit, so that quick audits come to show all mutants."""
    return zlib.crc32(f"{seed}:{commit.id if commit else ''}".encode())


def run_mutants(profile: Profile, drawn_by: int) -> Matrix:
    """Run them as a user does; a run that ends without its data is an AssertionError with the last line of it."""
    words = (*QUICK, "--seed", str(drawn_by)) if profile == "quick" else ()
    done = subprocess.run(
        [sys.executable, "-m", "harness", "mutants", "--json", *words], capture_output=True, text=True, check=False
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    assert done.returncode in (0, 1), f"the mutants could not be run: {last}"
    return from_json(json.loads(done.stdout))


@pytest.mark.criterion("A.mutants-killed")
def test_every_mutant_is_killed(matrix: Matrix, evidence: Evidence) -> None:
    """By the criterion that it names; one that equals its clean subject is no mutant."""
    evidence.figure("surviving_mutants", len(matrix.survivors))
    evidence.figure("mutants_killed", matrix.killed)
    evidence.figure("mutants_available", matrix.available)
    evidence.note(summary(matrix))
    if not matrix.complete:
        evidence.note(f"this run says nothing of any but {', '.join(trial.id for trial in matrix.trials)}")
    assert matrix.trials
    assert [f"{trial.id}: {trial.fate}" for trial in matrix.survivors] == []


@pytest.mark.criterion("A.idle-checks")
@pytest.mark.profile("full")
def test_every_check_kills_a_mutant(matrix: Matrix, evidence: Evidence) -> None:
    """A check that has never failed may be one that cannot."""
    evidence.figure("idle_checks", len(matrix.idle_checks))
    evidence.figure("checks", len(matrix.checks))
    evidence.figure("checks_set_aside", len(matrix.set_aside))
    for check, reason in matrix.set_aside.items():
        evidence.note(f"{check} is set aside: {reason}")
    assert matrix.complete, "only a run of all mutants can say that a check is idle"
    assert list(matrix.idle_checks) == []


@pytest.mark.criterion("A.false-alarms")
def test_the_clean_subjects_pass_every_check(matrix: Matrix, evidence: Evidence) -> None:
    """A check that fails on what is right accuses wrongly."""
    evidence.figure("false_alarms", len(matrix.false_alarms))
    evidence.figure("seeds", matrix.seeds)
    assert [f"{alarm.check} with seed {alarm.seed}: {alarm.message}" for alarm in matrix.false_alarms] == []
