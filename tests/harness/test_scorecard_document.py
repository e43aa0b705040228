"""What docs/scorecard.md shows means what it says there; `tests.harness.documentation` runs it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from harness import render
from harness.documentation import Document
from harness.expectations import read_expectations
from harness.gate import Thresholds, load_thresholds
from harness.scorecard import OLDEST_VERSION, SCHEMA_VERSION
from tests.harness.render import cards

ROOT = Path(__file__).parents[2]
DOCUMENT = Document(ROOT / "docs" / "scorecard.md", ROOT)


def block(language: str, word: str) -> str:
    (found,) = (each.text for each in DOCUMENT.blocks if each.language == language and word in each.text)
    return found


def test_pandas_reads_a_scorecard_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "REPORTS", {"csv": "rows.csv"})
    card = cards.scorecard()
    render.write_reports(card, tmp_path / "reports" / "latest")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block("python", "pandas"), names)
    assert list(names["rows"]["id"]) == [row.id for row in card.criteria]
    assert len(names["figures"]) == sum(len(row.figures) for row in card.criteria)
    assert {"name", "value", "id", "category"} <= set(names["figures"].columns)


def test_a_comparison_is_told_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("python", "harness.statistics"), {})
    assert re.search(r"reversed: .* as fast as sorted \(threads 1\); A/A control ", capsys.readouterr().out)


def test_thresholds_are_read_as_shown(tmp_path: Path) -> None:
    text = block("toml", "bitnet-audit.gate")
    (tmp_path / "pyproject.toml").write_text(text)
    load_thresholds(tmp_path / "pyproject.toml")
    shown = tomllib.loads(text)["tool"]["bitnet-audit"]["gate"]
    assert set(shown) == set(Thresholds.model_fields)


def test_expected_failures_are_read_as_shown_and_ours_is_readable(tmp_path: Path) -> None:
    (tmp_path / "known.txt").write_text(block("", "issue 12"))
    first, second = read_expectations(tmp_path / "known.txt").entries
    assert (first.pattern, first.reason) == ("1.1.inference-speedup", "issue 12")
    assert second.matches("suites/test_packing.py::test_exact[base3-7]")
    read_expectations(ROOT / "reports" / "expected-failures.txt")


def test_every_version_and_format_is_told() -> None:
    for version in range(OLDEST_VERSION, SCHEMA_VERSION + 1):
        assert re.search(rf"^\| {version}\b", DOCUMENT.text, re.MULTILINE)
    assert "|".join(["md", "html", "junit", "sarif", "summary", "csv", "svg"]) in DOCUMENT.text
    assert set(render.FORMATS) == {"md", "html", "junit", "sarif", "summary", "csv", "svg"}
    assert all(f"reports/latest/{name}" in DOCUMENT.text for name in render.REPORTS.values())
