import json
from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.source_mutants import __main__ as command
from harness.source_mutants.explanations import Entry, Explanations, read_explanations
from harness.source_mutants.report import FileReport, Report, Trial, read, render, summary, unexplained, warnings, write
from harness.source_mutants.scope import EXPLANATIONS, FOLDER

PLUS = "- a + 1\n+ a - 1"
LESS = "- a < b\n+ a <= b"


def file_report(*fates: str, file: str = "a.py") -> FileReport:
    changes = (PLUS, LESS, "- x\n+ y")
    trials = [
        Trial(line=line, function="f", change=change, fate=fate)
        for line, (change, fate) in enumerate(zip(changes, fates, strict=False), start=1)
    ]
    return FileReport(
        file=file, tests=("test_a.py",), digest="0", trials=tuple(trials), left_out={"text": 1}, seconds=1.0
    )


def explained(*changes: str, function: str = "f", file: str = "a.py") -> Explanations:
    return Explanations(explained=(Entry(file=file, function=function, reason="They are equal.", changes=changes),))


def test_the_score_counts_what_was_noticed_and_what_is_explained() -> None:
    report = Report(files=(file_report("killed", "survived", "timeout"),))
    assert summary(report, Explanations()) == (
        "2 of 3 changes noticed (66.7 %), 0 survivors explained, 1 not explained; 1 changes left out (25.0 % of all)"
    )
    assert "1 survivors explained, 0 not explained" in summary(report, explained(LESS))
    assert [trial.change for _, trial in unexplained(report, Explanations())] == [LESS]


@pytest.mark.parametrize(
    "other", [explained(LESS, function="g"), explained(LESS, file="b.py"), explained("- a < b\n+ a == b")]
)
def test_an_explanation_is_of_one_change_to_one_function_of_one_file(other: Explanations) -> None:
    report = Report(files=(file_report("killed", "survived"),))
    assert len(unexplained(report, other)) == 1


def test_an_explanation_of_what_was_noticed_or_does_not_exist_is_a_warning() -> None:
    report = Report(files=(file_report("killed", "survived"),))
    assert list(warnings(report, explained(LESS))) == []
    assert list(warnings(report, explained(PLUS, LESS))) == [
        "a.py, f: an explanation matches no survivor; correct or remove it: - a + 1 + a - 1"
    ]
    assert list(warnings(report, explained(PLUS, file="not_tried_yet.py"))) == []


def test_a_report_says_why_each_survivor_survives(tmp_path: Path) -> None:
    report = Report(files=(file_report("killed", "survived", "survived"),))
    page = render(report, explained(LESS, PLUS))
    assert "| a.py | 3 | 1 | 0 | 2 | 1 | 33.3 % |" in page
    assert "They are equal." in page
    assert "not explained" in page
    assert "matches no survivor" in page
    assert "Survivors" not in render(Report(files=(file_report("killed"),)), Explanations())
    assert "nothing" in render(Report(files=(file_report(),)), Explanations())


def test_reports_are_read_again_and_replaced_file_by_file(tmp_path: Path) -> None:
    report = read(tmp_path).with_file(file_report("killed", file="b.py")).with_file(file_report("killed"))
    write(report, Explanations(), tmp_path)
    assert read(tmp_path) == report
    replaced = report.with_file(file_report("survived"))
    assert [each.file for each in replaced.files] == ["a.py", "b.py"]
    assert replaced.of("a.py").survivors
    assert replaced.of("c.py") is None
    (tmp_path / "source-mutants.json").write_text("{}x", encoding="utf-8")
    with pytest.raises(AuditError, match="is no report on changes"):
        read(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """Campaigns that find one survivor, and what they were asked."""
    calls: list[tuple[object, ...]] = []

    def run(file, jobs, before, progress):
        calls.append((file, jobs, before is not None))
        made = file_report("killed", "survived")
        progress(1, 2, made.trials[0])
        progress(2, 2, made.trials[1])
        return made

    monkeypatch.setattr(command.campaign, "run", run)
    (tmp_path / "explanations.toml").write_text("", encoding="utf-8")
    return calls


def test_the_command_tells_each_survivor_and_fails_until_it_is_explained(asked, tmp_path: Path, capsys) -> None:
    assert command.main(["a.py", "--out", str(tmp_path), "--jobs", "1"]) == 1
    told = capsys.readouterr().out
    assert "a.py:2 (f)\n- a < b\n+ a <= b\n" in told
    assert "1 not explained" in told
    (tmp_path / "explanations.toml").write_text(
        "[[explained]]\nfile = 'a.py'\nfunction = 'f'\nreason = 'Equal.'\n"
        "changes = ['''\n  - a < b\n  + a <= b''', '''\n- gone\n+ gone''']\n",
        encoding="utf-8",
    )
    assert command.main(["a.py", "--out", str(tmp_path), "--survivors"]) == 0
    told = capsys.readouterr().out
    assert "warning: a.py, f: an explanation matches no survivor" in told
    assert "0 not explained" in told
    assert asked == [("a.py", 1, False), ("a.py", 2, True)]
    assert json.loads((tmp_path / "source-mutants.json").read_text())["files"][0]["file"] == "a.py"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[[explained]\n", "is not TOML"),
        ("[[explained]]\nfile = 'a.py'\n", "explained.0.function: Field required"),
        ("[[explained]]\nfile = 'a'\nfunction = ''\nreason = ''\nchanges = ['x']\n", "explained.0.reason"),
        (None, "cannot read the explanations"),
    ],
)
def test_explanations_that_cannot_be_read_are_refused_in_a_sentence(tmp_path: Path, text, match, capsys) -> None:
    if text is not None:
        (tmp_path / "explanations.toml").write_text(text, encoding="utf-8")
    with pytest.raises(AuditError, match=match):
        read_explanations(tmp_path / "explanations.toml")
    assert command.main(["--out", str(tmp_path)]) == 2
    assert match.split(":")[0] in capsys.readouterr().err


def test_the_project_s_own_explanations_can_be_read() -> None:
    read_explanations(command.campaign.trial.ROOT / FOLDER / EXPLANATIONS)
