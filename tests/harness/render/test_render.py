from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import render
from harness.errors import AuditError
from harness.scorecard import load, without_times
from tests.harness.render import cards

# What the nox session `gate` does not install.
ABSENT = (
    "torch matplotlib hypothesis pandas coverage numpy scipy transformers tokenizers safetensors pytest jaxtyping yaml"
)


def test_every_report_is_written_whole_beside_the_scorecard(tmp_path: Path) -> None:
    card = cards.scorecard()
    paths = render.write_reports(card, tmp_path / "new")
    assert sorted(path.name for path in paths) == sorted(path.name for path in (tmp_path / "new").iterdir())
    assert {path.name for path in paths} == {
        "scorecard.json",
        "scorecard.md",
        "scorecard.html",
        "junit.xml",
        "scorecard.sarif",
        "summary.md",
        "rows.csv",
    }
    assert without_times(load(tmp_path / "new" / "scorecard.json")) == without_times(card)
    for format, name in render.REPORTS.items():
        assert (tmp_path / "new" / name).read_text(encoding="utf-8") == render.FORMATS[format](card)


def test_a_report_that_cannot_be_made_leaves_the_old_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> str:
        raise AuditError("no")

    monkeypatch.setitem(render.FORMATS, "junit", fail)
    with pytest.raises(AuditError, match="no"):
        render.write_reports(cards.scorecard(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_html_report_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        each
        for each in sys.modules
        if each.startswith(("matplotlib", "harness.render.plots", "harness.render.gallery", "harness.render.html"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AuditError, match=r"needs matplotlib[.\w]*; install bitnet-audit with the extra"):
        render.FORMATS["html"](cards.scorecard())


def test_gate_and_text_reports_need_nothing_heavy(tmp_path: Path) -> None:
    render.write_reports(cards.scorecard(), tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.bitnet-audit.gate]\noverall = ">= 0.99"\n')
    program = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT.split()!r}))
from harness import render
from harness.cli import main
from harness.scorecard import load
card = load(__import__("pathlib").Path("scorecard.json"))
for format in ("md", "junit", "summary", "svg"):
    assert render.FORMATS[format](card)
sys.argv = ["bitnet-audit", "gate", "scorecard.json"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"overall: measured {cards.CREDIT / cards.WEIGHT:.6g}")
