"""What is read of others, through the commands that read it."""

import os

import pytest

from harness.criteria import load_rulebook
from harness.errors import AuditError, one_line
from harness.expectations import Entry
from harness.files import parse_json, read_text
from harness.gate import check_file, load_thresholds
from harness.scorecard import build, load, to_json
from harness.timings import read_benchmark
from tests.harness import made_up


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for read in (load, read_benchmark, load_thresholds, lambda file: check_file(file, None)):
        with pytest.raises(AuditError, match="a pipe or a device is no file"):
            read(path)


def test_names_sizes_and_bytes_that_no_file_here_has_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"\xff")
    for name, told in (("a\0b", "no file can have that name"), ("a", "not UTF-8"), ("absent", "No such file")):
        with pytest.raises(AuditError, match=f"cannot read the thing .*{told}.*; look again"):
            read_text(tmp_path / name, "the thing", "look again")
    monkeypatch.setattr("harness.files.LARGEST", 0)
    with pytest.raises(AuditError, match="more than 0 bytes"):
        read_text(tmp_path / "a", "the thing", "look again")


@pytest.mark.parametrize(("text", "told"), [("[" * 200_000, "nested too deeply"), ('["\\ud800"]', "surrogate")])
def test_json_that_could_not_be_written_again_is_refused(text, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        parse_json(text)
    (tmp_path / "a.json").write_text(text)
    for read in (load, read_benchmark):
        with pytest.raises(AuditError, match=rf"a\.json is not JSON: .*{told}"):
            read(tmp_path / "a.json")


def test_a_scorecard_with_half_a_character_breaks_no_gate(tmp_path):
    card = to_json(build(made_up.run(), load_rulebook()))
    (tmp_path / "card.json").write_text(card.replace("bitnet", "\\ud800", 3))
    (tmp_path / "pyproject.toml").write_text("[tool.bitnet-audit.gate]\nmax_red = 1\n")
    judgement = check_file(tmp_path / "card.json", load_thresholds(tmp_path / "pyproject.toml"))
    assert [breach.criterion for breach in judgement.breaches] == ["scorecard"]


@pytest.mark.parametrize("text", ["tool = 1", "tool.bitnet-audit = 1", "a = " + "[" * 5000, "a = 2024-99-99"])
def test_thresholds_of_another_shape_are_refused(text, tmp_path):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(AuditError, match=r"has no table|is not TOML"):
        load_thresholds(tmp_path / "pyproject.toml")


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("*[x]*", "test[x] more", True),
        ("a*a", "a", False),
        ("a*bc*cd", "abcd", False),
        ("b*", "ab", False),
        ("*" * 60 + "x", "y" * 500, False),
        ("*a" * 40 + "b", "a" * 500, False),
    ],
)
def test_patterns_match_in_no_time(pattern, name, matches):
    assert Entry(pattern, "", "").matches(name) is matches


def test_an_error_is_one_line_whatever_it_quotes():
    assert one_line(AuditError("a\nb\x1b[1m ö")) == r"a\nb\x1b[1m ö"
