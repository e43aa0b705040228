from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.files import write_bytes, write_text


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "file.txt", "žluť")
    assert path.read_text(encoding="utf-8") == "žluť"
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AuditError, match=r"cannot write .*choose another place with --out"):
        write_text(tmp_path / "file" / "below", "text")


def test_a_failed_write_leaves_neither_the_file_nor_a_remainder(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_text("so that it cannot be replaced")
    with pytest.raises(AuditError, match="cannot write"):
        write_text(tmp_path / "taken", "text")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
