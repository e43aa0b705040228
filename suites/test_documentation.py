"""Documentation: what README.md and docs/ name exists, links lead somewhere, and every block of code can be run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness import documentation
from harness.documentation import Document, Reference
from harness.evidence import Evidence
from harness.subject import Subject
from suites.repository import repository_of

READERS: Mapping[str, Callable[[Document], tuple[Reference, ...]]] = {
    "path": documentation.path_references,
    "command": documentation.command_references,
    "symbol": documentation.symbol_references,
}

tells_the_truth = pytest.mark.criterion("5.yellow.documentation-paths", "6.important.documentation-paths")


@pytest.fixture(scope="module")
def documents(subject: Subject) -> tuple[Document, ...]:
    """The documents of the subject's repository."""
    found = documentation.documents(repository_of(subject))
    if not found:
        pytest.skip(f"{subject.declaration.name} has neither README.md nor docs/")
    return found


@pytest.fixture(scope="module")
def references(documents: Sequence[Document]) -> dict[str, tuple[Reference, ...]]:
    """What the documents name, by kind, each with what is wrong with it."""
    found = {kind: every(read, documents) for kind, read in READERS.items()}
    if not any(found.values()):
        pytest.skip("the documents name no path, no command and no symbol")
    return found


@tells_the_truth
@pytest.mark.parametrize("kind", READERS)
def test_what_the_documents_name_exists(
    references: dict[str, tuple[Reference, ...]], kind: str, evidence: Evidence
) -> None:
    """Files and folders; programs with their sub-commands and options; names to import."""
    evidence.figure(f"{kind}s_named", len(references[kind]))
    assert not wrong(references[kind])


@pytest.mark.criterion("0.documentation-accuracy", "5.yellow.documentation-paths", "6.important.documentation-paths")
def test_share_of_references_that_hold(references: dict[str, tuple[Reference, ...]], evidence: Evidence) -> None:
    named = [reference for kind in references.values() for reference in kind]
    share = sum(reference.problem is None for reference in named) / len(named)
    evidence.figure("valid_references", 100 * share, "%")
    for line in wrong(named):
        evidence.note(line)
    assert share >= 0.9


@pytest.mark.criterion("A.documentation-links")
def test_links_lead_to_what_is_there(documents: Sequence[Document], evidence: Evidence) -> None:
    """Files of the repository, and headings of Markdown files."""
    links = every(documentation.link_references, documents)
    if not links:
        pytest.skip("the documents link to nothing in the repository")
    evidence.figure("links", len(links))
    evidence.figure("links_that_hold", 100 * sum(link.problem is None for link in links) / len(links), "%")
    assert not wrong(links)


@pytest.mark.criterion("A.documentation-blocks")
def test_every_block_can_be_run_or_says_why_not(documents: Sequence[Document], evidence: Evidence) -> None:
    """Blocks of code are read by bash and Python, their reduced forms show the same commands; blocks of data parse."""
    blocks = every(documentation.block_references, documents)
    if not blocks:
        pytest.skip("the documents show no block of code or data")
    evidence.figure("blocks", len(blocks))
    evidence.figure("sound_blocks", 100 * sum(block.problem is None for block in blocks) / len(blocks), "%")
    run = sum(len(documentation.runnable_blocks(document)) for document in documents)
    excused = [block for document in documents for block in documentation.excused_blocks(document)]
    evidence.figure("blocks_not_run", len(excused))
    for block in excused:
        evidence.note(f"not run: {block.title}: {block.excuse}")
    assert not wrong(blocks)
    assert run > len(excused), "most blocks of code are excused from being run"


@pytest.mark.criterion("A.documentation-runs")
@pytest.mark.profile("full")
def test_every_block_runs(documents: Sequence[Document], tmp_path: Path, evidence: Evidence) -> None:
    """One after the other, in one folder beside the repository, as their readers would run them."""
    folder = documentation.readers_folder(documents[0].root, tmp_path / "reader")
    outcomes = list(documentation.run_blocks(documents, folder))
    if not outcomes:
        pytest.skip("the documents show no block of code to run")
    failed = [f"{each.document}: {each.title}: {each.problem}" for each in outcomes if each.problem is not None]
    evidence.figure("blocks_run", len(outcomes))
    evidence.figure("blocks_that_run", 100 * (1 - len(failed) / len(outcomes)), "%")
    for line in failed:
        evidence.note(line)
    assert not failed


def every(read: Callable[[Document], tuple[Reference, ...]], documents: Sequence[Document]) -> tuple[Reference, ...]:
    """What a reader finds in all documents, each reference with the document in front."""
    return tuple(
        replace(each, text=f"{document.path.relative_to(document.root).as_posix()}: {each.text}")
        for document in documents
        for each in read(document)
    )


def wrong(references: Sequence[Reference]) -> list[str]:
    """One line for each reference that does not hold."""
    return [f"{each.text}: {each.problem}" for each in references if each.problem is not None]
