from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness import cli, render
from harness import run as running
from harness.criteria import load_rulebook
from harness.evidence import CheckRecord
from harness.run import RefusedError, Request
from harness.schema import SCHEMA_FILE
from harness.scorecard import Scorecard, build, load, save
from tests.harness import made_up
from tests.harness.made_up import figure
from tests.harness.render import cards


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `bitnet-audit` in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["bitnet-audit", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


def assert_refused(done: Done, *words: str) -> None:
    """One sentence on standard error, exit code 2, no traceback."""
    assert done.status == 2
    assert len(done.err.strip().splitlines()) == 1
    for each in words:
        assert each in done.err
    assert "Traceback" not in done.err


# --------------------------------------------------------------------------- run


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What was asked of the auditor, which answers with a made-up scorecard."""
    made: list[Request] = []

    def audit(request: Request) -> Scorecard:
        made.append(request)
        return cards.scorecard(only=request.only)

    monkeypatch.setattr(running, "audit", audit)
    return made


def test_a_run_goes_to_reports_latest_and_is_kept_in_the_history(command, requests: list[Request]) -> None:
    done = command("run")
    assert done.status == 0
    assert requests == [Request("bitnet", "quick", (), 0, (), Path("reports/latest"))]
    assert {path.name for path in Path("reports/latest").iterdir()} == {"scorecard.json", *render.REPORTS.values()}
    assert [path.name for path in Path("reports/history").iterdir()] == ["20260102T030405-0123456789ab.json"]
    assert f"made-up 1.0 scores {cards.SCORE}" in done.out
    assert "reports/latest/scorecard.html" in done.out


def test_options_reach_the_auditor_and_another_place_is_not_history(command, requests: list[Request]) -> None:
    words = ["--subject", "a.py:f", "--profile", "full", "--model", "one", "--model", "two", "--seed", "7"]
    assert command("run", *words, "--out", "mine").status == 0
    assert requests == [Request("a.py:f", "full", ("one", "two"), 7, (), Path("mine"))]
    assert Path("mine/scorecard.md").is_file()
    assert not Path("reports").exists()


def test_a_selection_goes_to_reports_only_and_is_not_history(command, requests: list[Request]) -> None:
    done = command("run", "--only", "A.packing-exact", "--only", "2.*")
    assert done.status == 0
    assert requests[0].only == ("A.packing-exact", "2.*")
    assert "Restricted to A.packing-exact, 2.*" in done.out
    assert [path.name for path in Path("reports").iterdir()] == ["only"]


def test_an_incomplete_run_ends_with_1_and_still_has_its_reports(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "audit", lambda request: cards.incomplete())
    done = command("run", "--out", "here")
    assert done.status == 1
    assert "incomplete: the run was killed before it ended" in done.err
    assert "not complete" in Path("here/summary.md").read_text()


def test_an_unknown_criterion_is_refused_before_anything_runs(command, requests: list[Request]) -> None:
    assert_refused(command("run", "--only", "9.z"), "no criterion '9.z'")
    assert requests == []


def test_an_input_that_pytest_refused_is_not_told_twice(command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: Request) -> Scorecard:
        raise RefusedError("already told")

    monkeypatch.setattr(running, "audit", refuse)
    done = command("run")
    assert (done.status, done.err) == (2, "")


# --------------------------------------------------------------------------- gate


def complete(*records: CheckRecord) -> Scorecard:
    return build(made_up.run(*records), load_rulebook())


def write_thresholds(text: str) -> None:
    Path("pyproject.toml").write_text(f"[tool.bitnet-audit.gate]\n{text}\n")


def test_the_gate_names_each_breach_in_a_line_of_its_own(command) -> None:
    Path("reports/latest").mkdir(parents=True)
    ratio = {"ratio_over_target": figure(1.2, unit="x")}
    save(complete(made_up.check("a", "1.1.compression-ratio", figures=ratio)), Path("reports/latest/scorecard.json"))
    write_thresholds(
        'max_red = 50\n[tool.bitnet-audit.gate.figures]\n"1.1.compression-ratio/ratio_over_target" = ">= 1.2"'
    )
    held = command("gate")
    assert (held.status, held.out) == (0, "reports/latest/scorecard.json: every threshold is held\n")
    tightened = '[tool.bitnet-audit.gate.figures]\n"1.1.compression-ratio/ratio_over_target" = ">= 1.3"'
    write_thresholds(f'must_be_green = ["2.ste"]\n{tightened}')
    breached = command("gate", "reports/latest/scorecard.json", "--pyproject", "pyproject.toml")
    assert breached.status == 1
    assert breached.out.splitlines() == [
        "2.ste: measured GREY (no check measures this), threshold GREEN",
        "1.1.compression-ratio/ratio_over_target: measured 1.2, threshold >= 1.3",
    ]


def test_expected_failures_regressions_and_warnings_are_told(command, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, passed = made_up.check("a", "2.ste", outcome="failed", message="no"), made_up.check("a", "2.ste")
    save(complete(failed, made_up.check("b", "2.dashboard")), Path("now.json"))
    save(complete(passed, made_up.check("b", "2.dashboard")), Path("before.json"))
    write_thresholds('must_be_green = ["2.ste"]\nexpected_failures = "known.txt"\nagainst = "before.json"')
    Path("known.txt").write_text("2.ste  # issue 7\n0.*\n7.*\n2.dashboard\n")
    done = command("gate", "now.json")
    assert done.status == 0
    assert done.out.splitlines()[0] == (
        "expected failure: 2.ste: measured RED (1 failed of 1 checks: a: no), threshold GREEN (issue 7)"
    )
    assert "expected failure: 2.ste: measured RED, threshold no regression from GREEN (issue 7)" in done.out
    assert done.out.splitlines()[-1] == "now.json: every threshold is held, but for what is expected to fail"
    assert "warning: known.txt, line 4: 2.dashboard is expected to fail, but is GREEN" in done.err
    Path("none.txt").write_text("")
    bare = command("gate", "now.json", "--expected-failures", "none.txt", "--json")
    assert bare.status == 1
    assert [each["criterion"] for each in json.loads(bare.out)["breaches"]][:2] == ["2.ste", "2.ste"]
    assert command("gate", "before.json", "--against", "before.json", "--expected-failures", "none.txt").status == 0
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    annotated = command("gate", "now.json")
    assert annotated.out.startswith("::notice title=expected failure%3A 2.ste::")
    assert "::warning title=expected failures::known.txt, line 4: 2.dashboard" in annotated.out
    assert_refused(command("gate", "now.json", "--against", "absent.json"), "cannot read the scorecard absent.json")
    assert_refused(command("gate", "now.json", "--expected-failures", "gone"), "cannot read the expected failures gone")


def test_the_gate_needs_its_files(command) -> None:
    assert_refused(command("gate"), "cannot read the thresholds pyproject.toml", "--pyproject")
    write_thresholds("max_red = 1")
    assert_refused(command("gate", "absent.json"), "cannot read the scorecard absent.json")


# --------------------------------------------------------------------------- diff, report


def test_diff_names_scores_statuses_and_figures_that_changed(command) -> None:
    figures = {"ratio_over_target": figure(1.2, unit="x")}
    better = {"ratio_over_target": figure(1.5, unit="x")}
    save(complete(made_up.check("a", "1.1.compression-ratio", figures=figures)), Path("a.json"))
    save(
        complete(
            made_up.check("a", "1.1.compression-ratio", figures=better), made_up.check("b", "2.ste", outcome="failed")
        ),
        Path("b.json"),
    )
    lines = command("diff", "a.json", "b.json").out.splitlines()
    assert lines[0] == "before: made-up 1.0, quick, 0123456789ab, 2026-01-02T03:04:05+00:00"
    score = f"{100 / cards.WEIGHT:.1f} %"
    assert lines[2] == f"overall: {score} -> {score}"
    assert "2.ste: GREY -> RED (measured)" in lines
    assert "1.1.compression-ratio/ratio_over_target: 1.2 -> 1.5 x (better)" in lines
    assert command("diff", "a.json", "b.json").status == 0
    unmeasured = command("diff", "b.json", "a.json")
    assert unmeasured.status == 1
    assert "2.ste: RED -> GREY (unmeasured)" in unmeasured.out
    same = command("diff", "a.json", "a.json")
    assert (same.status, same.out.splitlines()[-1]) == (0, "no status and no figure changed")
    told = command("diff", "b.json", "a.json", "--json")
    assert told.status == 1
    assert "2.ste" in json.loads(told.out)["regressions"]
    assert json.loads(command("diff", "b.json", "a.json", "--slack", "0.5", "--json").out)["figure_regressions"] == []


def test_an_edited_status_ends_a_diff_with_1(command) -> None:
    save(complete(made_up.check("a", "2.ste", outcome="failed")), Path("a.json"))
    data = json.loads(Path("a.json").read_text())
    next(row for row in data["criteria"] if row["id"] == "2.ste")["status"] = "GREEN"
    Path("b.json").write_text(json.dumps(data))
    done = command("diff", "a.json", "b.json")
    assert done.status == 1
    assert "2.ste: GREEN in the scorecard after, but its evidence gives RED (edited)" in done.out


def test_diff_tells_what_was_not_measured(command) -> None:
    save(complete(), Path("a.json"))
    save(
        complete(made_up.check("a", "1.1.compression-ratio", figures={"ratio_over_target": figure(2.0)})),
        Path("b.json"),
    )
    assert (
        "1.1.compression-ratio/ratio_over_target: not measured -> 2 x (measured)"
        in command("diff", "a.json", "b.json").out
    )


@pytest.mark.parametrize("format", render.FORMATS)
def test_report_writes_every_format_to_standard_output_or_a_file(command, format: str) -> None:
    card = cards.scorecard()
    save(card, Path("scorecard.json"))
    expected = render.FORMATS[format](load(Path("scorecard.json")))
    assert command("report", "scorecard.json", "--format", format).out == expected
    done = command("report", "scorecard.json", "--format", format, "--out", "sub/report")
    assert (done.status, done.out) == (0, "")
    assert Path("sub/report").read_text(encoding="utf-8") == expected


def test_the_documented_picture_is_an_svg(command) -> None:
    save(cards.scorecard(), Path("scorecard.json"))
    assert command("report", "scorecard.json", "--format", "svg", "--out", "docs/scorecard.svg").status == 0
    assert ElementTree.parse("docs/scorecard.svg").getroot().tag.endswith("svg")


def test_bad_scorecards_and_formats_are_refused(command) -> None:
    assert_refused(command("report", "absent.json"), "cannot read the scorecard absent.json", "run the audit first")
    Path("bad.json").write_text("{")
    assert_refused(command("report", "bad.json"), "bad.json is not JSON")
    assert_refused(command("diff", "bad.json", "bad.json"), "bad.json is not JSON")
    done = command("report", "bad.json", "--format", "pdf")
    assert done.status == 2
    assert "'pdf'" in done.err


def test_the_html_report_shows_the_trends_of_the_history(command) -> None:
    skipped = made_up.check("a", "2.ste", outcome="skipped")
    save(
        build(made_up.run(skipped, started="2026-01-01T00:00:00+00:00"), load_rulebook()),
        Path("reports/history/old.json"),
    )
    save(complete(skipped), Path("scorecard.json"))
    assert 'id="trends"' in command("report", "scorecard.json", "--format", "html").out
    assert 'id="trends"' not in command("report", "scorecard.json", "--format", "html", "--history", "none").out


def test_the_schema_is_printed_as_it_is_shipped(command) -> None:
    assert command("schema").out == SCHEMA_FILE.read_text(encoding="utf-8")


def test_times_are_compared(command) -> None:
    stats = [{"name": name, "stats": {"data": [seconds] * 5}} for name, seconds in (("old", 2.0), ("new", 1.0))]
    Path("times.json").write_text(json.dumps({"benchmarks": stats}))
    done = command("times", "times.json", "--baseline", "old")
    assert (done.status, done.out.startswith("new: 2 [2, 2] times as fast as old; not interleaved")) == (0, True)
    assert_refused(command("times", "absent.json"), "cannot read the times absent.json")


# --------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", ["run", "bench", "times", "gate", "diff", "report", "schema"])
def test_every_command_explains_itself_with_an_example(command, name: str) -> None:
    done = command(name, "--help")
    assert done.status == 0
    assert f"  bitnet-audit {name}" in done.out


def test_without_a_command_the_commands_are_listed(command) -> None:
    shown = command()
    assert all(name in shown.out + shown.err for name in ("run", "times", "gate", "diff", "report", "schema"))


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("harness", run_name="__main__")
    assert ended.value.code == 0
    assert "Usage:" in capsys.readouterr().out
