"""Documentation: every path, command and symbol that the README names exists and, where it can run, runs."""

from collections.abc import Sequence

import pytest

from harness import documentation
from harness.documentation import Document, Reference
from harness.evidence import Evidence
from harness.subject import Subject
from suites.repository import repository_of

README = "README.md"
READERS = {
    "path": documentation.path_references,
    "command": documentation.command_references,
    "symbol": documentation.symbol_references,
}

tells_the_truth = pytest.mark.criterion("5.yellow.documentation-paths", "6.important.documentation-paths")


@pytest.fixture(scope="module")
def references(subject: Subject) -> dict[str, tuple[Reference, ...]]:
    """What the README names, by kind, each with what is wrong with it."""
    root = repository_of(subject)
    if not (root / README).is_file():
        pytest.skip(f"{subject.declaration.name} has no {README}")
    document = Document(root / README, root)
    found = {kind: read(document) for kind, read in READERS.items()}
    if not any(found.values()):
        pytest.skip(f"the {README} of {subject.declaration.name} names no path, no command and no symbol")
    return found


@tells_the_truth
@pytest.mark.parametrize("kind", READERS)
def test_what_the_readme_names_exists(
    references: dict[str, tuple[Reference, ...]], kind: str, evidence: Evidence
) -> None:
    """Files and folders; programs with their sub-commands and options; names to import."""
    evidence.figure(f"{kind}s_named", len(references[kind]))
    assert not wrong(references[kind])


@pytest.mark.criterion("0.documentation-accuracy", "5.yellow.documentation-paths", "6.important.documentation-paths")
def test_share_of_references_that_hold(references: dict[str, tuple[Reference, ...]], evidence: Evidence) -> None:
    every = [reference for kind in references.values() for reference in kind]
    share = sum(reference.problem is None for reference in every) / len(every)
    evidence.figure("valid_references", 100 * share, "%")
    for line in wrong(every):
        evidence.note(line)
    assert share >= 0.9


def wrong(references: Sequence[Reference]) -> list[str]:
    """One line for each reference that does not hold."""
    return [f"{each.text}: {each.problem}" for each in references if each.problem is not None]
