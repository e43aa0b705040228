import os

import pytest

from bitnet.checkpoint import digest_file, read_json
from bitnet.errors import LONGEST, BitnetError, first_line, shortened
from bitnet.reading import check_regular, read_small
from bitnet.text import read_text


def test_a_small_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes("wörd\r\n".encode())
    assert read_small(tmp_path / "a") == "wörd\r\n"


def test_what_is_larger_than_such_a_file_can_be_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 11)
    assert read_small(tmp_path / "a", 11) == "x" * 11
    with pytest.raises(BitnetError, match="more than 10 bytes"):
        read_small(tmp_path / "a", 10)


def test_other_text_than_utf8_and_names_that_no_file_has_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"caf\xe9")
    with pytest.raises(BitnetError, match=r"not UTF-8 text \(byte 3\)"):
        read_small(tmp_path / "a")
    for read in (read_small, read_json, digest_file, read_text):
        with pytest.raises(BitnetError, match="no file can have that name"):
            read(tmp_path / "a\0b")


def test_pipes_and_devices_are_refused_and_the_rest_is_left_to_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        for read in (check_regular, digest_file, read_json):
            with pytest.raises(BitnetError, match="is a pipe or a device"):
                read(tmp_path / name)
    for name in (".", "absent", "a\0b"):
        check_regular(tmp_path / name)


def test_json_that_is_nested_without_end_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(BitnetError, match=r"a\.json is not valid JSON .*nested too deeply"):
        read_json(tmp_path / "a.json")


def test_foreign_text_stays_on_one_line_and_tells_a_terminal_nothing():
    assert shortened("a\nb\x1b[31mc\u202ed") == r"a\nb\x1b[31mc\u202ed"
    assert shortened("wörd 语") == "wörd 语"
    assert len(shortened("x" * 1000)) == LONGEST + 3
    assert first_line(ValueError("one:\ntwo")) == "one"
