"""Mutation of the source, as the last run of its session left it in the repository.

The report is read, not made: that takes half an hour and is another session. Where there is none, or where a file has
been altered since, the row stays unmeasured, and says why.
"""

import pytest

from harness.evidence import Evidence
from harness.source_mutants.explanations import Explanations, read_explanations
from harness.source_mutants.report import Report, read, stale_reason, summary, unexplained, warnings
from harness.source_mutants.scope import EXPLANATIONS, FOLDER
from harness.subject import Subject
from suites.repository import repository_of


@pytest.fixture(scope="module")
def tried(subject: Subject) -> tuple[Report, Explanations]:
    """What became of the changes to the files of the subject's repository, and why some were not noticed."""
    root = repository_of(subject)
    report = read(root / FOLDER)
    reason = stale_reason(report, root)
    if reason is not None:
        pytest.skip(reason)
    return report, read_explanations(root / FOLDER / EXPLANATIONS)


@pytest.mark.criterion("A.source-mutants")
@pytest.mark.profile("full")
def test_every_change_to_the_source_is_noticed_or_explained(
    tried: tuple[Report, Explanations], evidence: Evidence
) -> None:
    """By the tests of the file; an explanation says why a change cannot be noticed."""
    report, explanations = tried
    survivors = unexplained(report, explanations)
    evidence.figure("unexplained_survivors", len(survivors))
    evidence.figure("mutation_score", 100 * report.score, "%")
    evidence.note(summary(report, explanations))
    for warning in warnings(report, explanations):
        evidence.note(warning)
    assert all(each.trials for each in report.files), "there is a file that nothing was changed in"
    assert [f"{file}:{trial.line}: {trial.change}" for file, trial in survivors] == []
