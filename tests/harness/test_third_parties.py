from __future__ import annotations

from pathlib import Path

import pytest

from harness import third_parties
from harness.criteria import Status
from harness.errors import AuditError
from harness.scorecard import build, save
from harness.third_parties import BEGIN, END, FOLDER, condense, page, read_summaries, table, with_table
from tests.harness import made_up

REPOSITORY = Path(__file__).parents[2]
BOTH = ("A.as-declared", "A.packing-exact")


@pytest.fixture
def scorecard():
    checks = (
        made_up.check("suites/test_a.py::test_one", "A.as-declared"),
        made_up.check("suites/test_a.py::test_two", *BOTH, outcome="failed", message="a | b\nc"),
        made_up.check("suites/test_a.py::test_three", "A.activation-quantization"),
        made_up.check("suites/test_a.py::test_four", "2.calibration", outcome="not_applicable", message="no"),
    )
    return build(made_up.run(*checks))


def test_a_scorecard_is_condensed_to_the_rows_that_were_measured(scorecard) -> None:
    summary = condense(scorecard)
    assert {row.id: row.status for row in summary.rows} == {
        "A.activation-quantization": Status.GREEN,
        "A.as-declared": Status.RED,
        "A.packing-exact": Status.RED,
    }
    assert [(check.nodeid, check.message) for check in summary.failed] == [("suites/test_a.py::test_two", "a | b")]
    assert summary.outcomes == {"passed": 2, "failed": 1, "not_applicable": 1}
    assert summary.status("2.calibration") is Status.GREY


def test_the_table_has_a_line_for_each_library(scorecard) -> None:
    *_, line = table([condense(scorecard)]).splitlines()
    assert line == "| made-up 1.0 | - | - | passes | **fails** | - | **fails** | - | 2 of 3 |"


def test_a_page_lists_rows_and_failures(scorecard) -> None:
    text = page(condense(scorecard))
    assert "2 of 3 applicable checks passed" in text
    assert "| As declared (`A.as-declared`) | RED |" in text
    assert "- `suites/test_a.py::test_two`: a \\| b" in text


def test_only_what_is_between_the_markers_is_replaced() -> None:
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    for document in ("nothing", f"{BEGIN} alone"):
        with pytest.raises(AuditError, match="no place for the table"):
            with_table(document, "new")


def test_the_command_condenses_every_scorecard_and_writes_the_table(scorecard, tmp_path: Path, capsys) -> None:
    save(scorecard, tmp_path / "made-up" / "scorecard.json")
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    third_parties.main(["--folder", str(tmp_path), "--readme", str(readme)])
    assert read_summaries(tmp_path) == (condense(scorecard),)
    assert "| made-up 1.0 |" in readme.read_text()
    assert "| made-up 1.0 |" in capsys.readouterr().out
    assert (tmp_path / "made-up" / "rows.md").read_text().startswith("# made-up 1.0\n")


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "rows.json").write_text("{}")
    with pytest.raises(AuditError, match=r"x.rows\.json is not a summary"):
        read_summaries(tmp_path)


def test_the_readme_says_what_the_scorecards_say() -> None:
    summaries = read_summaries(REPOSITORY / FOLDER)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert with_table(readme, table(summaries)) == readme
    assert {each.subject for each in summaries} == set(third_parties.third_parties())
    assert all(each.complete for each in summaries)
