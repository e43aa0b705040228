"""Thresholds as they are read from pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.criteria import Status, load_rulebook
from harness.errors import AuditError
from harness.gate import Thresholds, load_thresholds
from tests.harness.gate_scorecards import RULES


def pyproject(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    return path


def test_thresholds_are_read_from_pyproject(tmp_path: Path) -> None:
    path = pyproject(
        tmp_path,
        """
        [tool.bitnet-audit.gate]
        overall = " >=  0.5 "
        max_red = 3
        must_be_green = ["1.b"]
        figures = { "1.a/ratio" = ">= 8" }
        categories = { parts = ">= 0.5" }
        criteria = { "1.*" = "YELLOW" }
        slack = 0.01
        expected_failures = "known.txt"
        against = "reports/old.json"
        """,
    )
    assert load_thresholds(path, RULES) == Thresholds(
        overall=">=  0.5",
        max_red=3,
        must_be_green=("1.b",),
        figures={"1.a/ratio": ">= 8"},
        categories={"parts": ">= 0.5"},
        criteria={"1.*": Status.YELLOW},
        slack=0.01,
        expected_failures=tmp_path / "known.txt",
        against=tmp_path / "reports" / "old.json",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"has no table \[tool\.bitnet-audit\.gate\]"),
        ("not toml", "is not TOML"),
        ('[tool.bitnet-audit.gate]\noverall = "lots"', "overall.*cannot read the comparison 'lots'"),
        ("[tool.bitnet-audit.gate]\nmax_red = -1", "max_red"),
        ("[tool.bitnet-audit.gate]\nmax_reds = 1", "max_reds"),
        ('[tool.bitnet-audit.gate]\nmust_be_green = ["9.z"]', "unknown criterion '9.z'"),
        ('[tool.bitnet-audit.gate.figures]\n"9.z/x" = ">= 1"', "unknown criterion '9.z'"),
        ('[tool.bitnet-audit.gate.figures]\n"1.a" = ">= 1"', "'1.a' names no figure"),
        ('[tool.bitnet-audit.gate.criteria]\n"9.*" = "GREEN"', r"unknown criterion '9\.\*'"),
        ('[tool.bitnet-audit.gate.criteria]\n"1.a" = "RED"', "criteria.1.a"),
        ('[tool.bitnet-audit.gate.categories]\nothers = ">= 1"', "unknown category 'others'"),
        ('[tool.bitnet-audit.gate.categories]\nparts = "much"', "categories.*cannot read the comparison 'much'"),
        ("[tool.bitnet-audit.gate]\nslack = -0.1", "slack"),
        ("[tool.bitnet-audit.gate]\nslack = inf", "slack"),
    ],
)
def test_faulty_thresholds_are_refused_in_one_sentence(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(AuditError, match=fault) as caught:
        load_thresholds(pyproject(tmp_path, text), RULES)
    assert "pyproject.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_said_holds_nothing_and_compares_with_nothing(tmp_path: Path) -> None:
    table = '[tool.bitnet-audit.gate.figures]\n"1.a/tokens/s" = ">= 1"'  # a figure's name may have a slash in it
    thresholds = load_thresholds(pyproject(tmp_path, table), RULES)
    assert thresholds == Thresholds(overall=None, figures={"1.a/tokens/s": ">= 1"})
    assert (thresholds.overall, thresholds.max_red, thresholds.slack) == (None, None, 0.0)
    assert (thresholds.expected_failures, thresholds.against) == (None, None)
    with pytest.raises(ValidationError, match="frozen"):
        thresholds.max_red = 100  # type: ignore[misc]


def test_a_missing_pyproject_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"cannot read the thresholds .*--pyproject"):
        load_thresholds(tmp_path / "absent.toml", RULES)


def test_the_project_s_own_thresholds_are_readable_and_not_empty() -> None:
    own = load_thresholds(Path(__file__).parents[2] / "pyproject.toml")
    assert own.must_be_green
    assert set(own.must_be_green) <= {each.id for each in load_rulebook().criteria}
