from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.evidence import CheckRecord
from harness.expectations import Expectations, read_expectations
from harness.scorecard import Scorecard, build
from tests.harness.made_up import check, criterion, figure, rulebook, run

RULES = rulebook(
    criterion("1.a", figures={"ratio": {"target": ">= 8", "tolerance": ">= 6"}}), criterion("1.b"), criterion("1.c")
)


def read(tmp_path: Path, text: str) -> Expectations:
    path = tmp_path / "expected.txt"
    path.write_text(text, encoding="utf-8")
    return read_expectations(path)


def card(*records: CheckRecord) -> Scorecard:
    return build(run(*records), RULES)


def covered(expected: Expectations, scorecard: Scorecard) -> dict[str, str]:
    found = {row.id: expected.covering(scorecard, row) for row in scorecard.criteria}
    return {row: entry.pattern for row, entry in found.items() if entry}


def test_entries_have_patterns_reasons_and_places(tmp_path: Path) -> None:
    text = "# a comment\n\n1.a   # too slow # really\n  suites/t.py::test_x[a#b-[c]]\n"
    first, second = read(tmp_path, text).entries
    assert (first.pattern, first.reason, first.place) == ("1.a", "too slow # really", "expected.txt, line 3")
    assert (second.pattern, second.reason) == ("suites/t.py::test_x[a#b-[c]]", "")
    assert (first.names_check, second.names_check) == (False, True)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("1.a", "1.a", True),
        ("1.a", "1xa", False),
        ("1.*", "1.a", True),
        ("*", "anything", True),
        ("t.py::x[*]", "t.py::x[base3-1]", True),
        ("t.py::x[ab]", "t.py::xa", False),
        ("t.py::x?", "t.py::xy", False),
    ],
)
def test_only_a_star_is_special(tmp_path: Path, pattern: str, name: str, matches: bool) -> None:
    (entry,) = read(tmp_path, pattern).entries
    assert entry.matches(name) is matches


def test_rows_that_fell_short_are_covered_and_no_others(tmp_path: Path) -> None:
    expected = read(tmp_path, "1.*")
    short = check("a", "1.a", figures={"ratio": figure(7.0)})
    assert covered(expected, card(short, check("b", "1.b", outcome="failed"), check("c", "1.c"))) == {
        "1.a": "1.*",
        "1.b": "1.*",
    }
    assert covered(expected, card()) == {}  # GREY is not failed


def test_a_row_is_covered_when_every_failed_check_of_it_is(tmp_path: Path) -> None:
    expected = read(tmp_path, "t.py::x*\nt.py::z")
    x, y = check("t.py::x1", "1.b", outcome="failed"), check("t.py::y", "1.b", outcome="error")
    z = check("t.py::z", "1.b", outcome="error")
    assert covered(expected, card(x, z, check("t.py::w", "1.b"))) == {"1.b": "t.py::x*"}
    assert covered(expected, card(x, y)) == {}


@pytest.mark.parametrize("ratio", [1.0, math.nan])
def test_a_missed_figure_is_not_covered_by_checks(tmp_path: Path, ratio: float) -> None:
    expected = read(tmp_path, "t.py::x")
    failed = check("t.py::x", "1.a", outcome="failed")
    assert covered(expected, card(failed, check("f", "1.a", figures={"ratio": figure(9.0)}))) == {"1.a": "t.py::x"}
    assert covered(expected, card(failed, check("f", "1.a", figures={"ratio": figure(ratio)}))) == {}
    assert covered(expected, card(failed, check("f", "1.a", figures={"aside": figure(math.nan)}))) == {}


def test_entries_that_name_nothing_or_something_that_did_not_fail_are_told(tmp_path: Path) -> None:
    expected = read(tmp_path, "9.z\n1.b\n1.c\n1.a\nt.py::no\nt.py::b\nt.py::skipped\nt.py::bad\n")
    scorecard = card(
        check("t.py::b", "1.b"),
        check("t.py::skipped", "1.c", outcome="skipped"),
        check("t.py::bad", "1.a", outcome="failed"),
    )
    assert list(expected.warnings(scorecard)) == [
        "expected.txt, line 1: '9.z' matches nothing; correct or remove it",
        "expected.txt, line 2: 1.b is expected to fail, but is GREEN; remove the entry",
        "expected.txt, line 3: 1.c is expected to fail, but was not measured (GREY)",
        "expected.txt, line 5: 't.py::no' matches nothing; correct or remove it",
        "expected.txt, line 6: t.py::b is expected to fail, but is passed; remove the entry",
        "expected.txt, line 7: t.py::skipped is expected to fail, but was not measured (skipped)",
    ]


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"cannot read the expected failures .*absent"):
        read_expectations(tmp_path / "absent")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(AuditError, match="not UTF-8"):
        read_expectations(tmp_path / "latin")
