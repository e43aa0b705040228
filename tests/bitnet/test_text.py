from pathlib import Path

import pytest

from bitnet.errors import BitnetError
from bitnet.text import heldout_text, read_text, training_text


def paragraphs(text: str) -> list[str]:
    return [" ".join(p.split()) for p in text.split("\n\n") if p.strip()]


def test_a_tenth_is_held_out():
    share = len(heldout_text()) / (len(heldout_text()) + len(training_text()))
    assert 0.08 < share < 0.12
    assert len(training_text()) > 200_000


def test_training_and_heldout_share_no_paragraph():
    assert not set(paragraphs(training_text())) & set(paragraphs(heldout_text()))


def test_heldout_sentences_are_not_in_the_training_text():
    training = " ".join(training_text().split())
    heldout = " ".join(heldout_text().split())
    starts = range(0, len(heldout) - 100, 50)
    seen = sum(heldout[i : i + 100] in training for i in starts)
    assert seen / len(starts) < 0.02


def test_no_paragraph_occurs_twice():
    both = paragraphs(training_text()) + paragraphs(heldout_text())
    assert len(both) == len(set(both))


def test_the_text_is_the_same_every_time():
    assert training_text() == training_text()
    assert heldout_text() == heldout_text()


def test_read_text(tmp_path: Path):
    path = tmp_path / "text.txt"
    path.write_bytes("Größe\r\n中".encode())
    assert read_text(path) == "Größe\r\n中"


@pytest.mark.parametrize(("content", "complaint"), [(b"", "is empty"), (b" \n", "is empty"), (b"a\xff", "not UTF-8")])
def test_read_text_names_the_file_and_the_remedy(tmp_path: Path, content: bytes, complaint: str):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(BitnetError, match=complaint) as error:
        read_text(path)
    assert str(path) in str(error.value)


def test_read_text_missing_file_and_directory(tmp_path: Path):
    with pytest.raises(BitnetError, match=r"Cannot read the text .*nowhere\.txt \(No such file"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(BitnetError, match="directory"):
        read_text(tmp_path)
