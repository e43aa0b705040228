from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.baseline import BASELINE_FILE, Baseline, forensic_baseline, to_toml
from harness.criteria import load_rulebook

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def baseline() -> Baseline:
    return forensic_baseline()


def test_the_audit_s_own_rows_give_other_figures_than_it_published(baseline: Baseline) -> None:
    found = {each.name: (each.published, each.from_rows, each.arithmetic) for each in baseline.rederived}
    assert found["overall, mean of section 0"] == ("84.5%", 75.6, "(85 + 90 + 88 + 40 + 75) / 5")
    assert found["overall, mean of section 7"] == ("84.5%", 72.6, "(100 + 60 + 40 + 75 + 88) / 5")
    assert found["feature completion, boxes ticked"] == ("90%", 75.0, "15 of 20 boxes")
    assert found["architecture match, GREEN rows of 1.1"] == ("85%", 85.7, "6 of 7 rows")
    assert found["paper alignment, mean match of 1.2"][:2] == ("88%", 98.3)
    assert found["integration, boxes of its group"][:2] == ("60%", 42.9)
    assert found["core features, boxes ticked"][:2] == ("14", 13)
    assert found["lines of code, sum of the files"][:2] == ("2100 to 2400", 2154)


def test_the_baseline_holds_every_audited_row_and_none_of_ours(baseline: Baseline) -> None:
    assert [each.id for each in baseline.rows] == [each.id for each in load_rulebook().criteria if each.section != "A"]


def test_the_published_file_is_what_the_code_writes(baseline: Baseline) -> None:
    text = to_toml(baseline)
    assert (REPOSITORY / BASELINE_FILE).read_text(encoding="utf-8") == text
    data = tomllib.loads(text)
    assert data["date"] == "2025-11-27"
    assert len(data["row"]) == len(baseline.rows)
    assert {each["status"] for each in data["row"]} == {"GREEN", "YELLOW", "RED"}
