import re
import unicodedata
from pydoc_data.topics import topics

from bitnet.text import heldout_text, training_text
from harness import texts


def paragraphs(text: str) -> set[tuple[str, ...]]:
    return {tuple(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()}


def test_the_held_out_text_is_the_one_that_nothing_is_trained_on():
    assert texts.held_out_text() == heldout_text()
    assert paragraphs(texts.held_out_text()).isdisjoint(paragraphs(training_text()))


def test_the_held_out_text_is_a_tenth_of_the_manual_in_whole_paragraphs():
    everything = set().union(*map(paragraphs, topics.values()))
    assert paragraphs(texts.held_out_text()) <= everything
    assert paragraphs(texts.held_out_text()) | paragraphs(training_text()) == everything
    size = len(texts.held_out_text()) / (len(training_text()) + len(texts.held_out_text()))
    assert 0.08 < size < 0.12


def test_an_excerpt_ends_with_a_line_inside_the_limit():
    for characters in (80, 900, 5000):
        excerpt = texts.held_out_excerpt(characters)
        assert texts.held_out_text().startswith(excerpt)
        assert characters - 100 < len(excerpt) <= characters
        assert excerpt.endswith("\n")


def test_an_excerpt_shorter_than_a_line_is_cut_inside_it():
    assert len(texts.held_out_excerpt(5)) == 5


def test_scoring_texts_differ_in_what_makes_tokenizers_stumble():
    prose, unusual, manual = texts.scoring_texts().values()
    assert prose.isascii()
    assert manual == texts.held_out_excerpt(900)
    assert {len(letter.encode()) for letter in unusual} == {1, 2, 3, 4}
    assert any(unicodedata.combining(letter) for letter in unusual)
    assert all(space in unusual for space in ("\t", "\x0b", "\r\n", "\u00a0", "\u2003", "  "))
    assert unusual != unusual.rstrip()


def test_a_text_is_cut_into_documents_of_whole_lines():
    text = texts.held_out_text()[:5000]
    documents = texts.documents_of(text, 400)
    assert "".join(documents) == text
    assert len(documents) > 8
    assert min(map(len, documents)) >= 400
    assert all(document.endswith("\n") for document in documents[:-1])
    assert texts.documents_of("short\ntext\n", 400) == ["short\ntext\n"]
    assert texts.documents_of("", 400) == [""]
