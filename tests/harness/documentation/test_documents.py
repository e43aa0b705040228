"""Our own documents: everything that they name is there, and the blocks that take no time run as they are shown."""

from pathlib import Path

import pytest

from bitnet.builtin import CACHE_VARIABLE
from bitnet.tiny import TinyRecipe
from harness import documentation, render
from harness.documentation import Document
from tests.bitnet.phase4 import write_model
from tests.bitnet.small_models import small_model
from tests.harness.render import cards

REPOSITORY = Path(__file__).parents[3]
DOCUMENTS = documentation.documents(REPOSITORY)


def name_of(document: Document) -> str:
    return document.path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
@pytest.mark.parametrize(
    "read",
    [
        documentation.path_references,
        documentation.link_references,
        documentation.symbol_references,
        documentation.block_references,
        documentation.command_references,
    ],
)
def test_what_a_document_names_is_there(read, document):
    assert {each.text: each.problem for each in read(document) if each.problem} == {}


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's folder with a scorecard, and a small model in the place of `tiny`, whose training takes minutes."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_model(tmp_path / "cache" / f"tiny-{TinyRecipe().key()}", "llama", small_model("llama"))
    folder = documentation.readers_folder(REPOSITORY, tmp_path / "reader")
    render.write_reports(cards.scorecard(), folder / "reports" / "latest")
    return folder


def test_the_blocks_run_as_they_are_shown(reader):
    outcomes = list(documentation.run_blocks(DOCUMENTS, reader, slow=False))
    assert len(outcomes) > 8
    assert {f"{each.document}: {each.title}": each.problem for each in outcomes if each.problem} == {}
