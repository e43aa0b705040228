from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import AuditError
from harness.evidence import Evidence, EvidenceWriter, Figure, Run, RunEnd, read_run
from tests.harness.made_up import check, figure, run, start


def test_figures_keep_their_unit_and_interval() -> None:
    evidence = Evidence()
    evidence.figure("speed", np.float32(2.5), "x", interval=(torch.tensor(2.0), 3))
    assert evidence.figures == {"speed": Figure(value=2.5, unit="x", interval=(2.0, 3.0))}


def test_times_are_kept_apart_from_what_a_seed_decides() -> None:
    evidence = Evidence()
    evidence.figure("speed", 2.5, "x", interval=(2, 3), timing=True)
    evidence.times("arm", [np.float64(0.25), 1])
    assert evidence.figures["speed"].timing
    assert not figure(2.5).timing
    assert evidence.timings == {"arm": (0.25, 1.0)}


def test_a_figure_is_recorded_once() -> None:
    evidence = Evidence()
    evidence.figure("speed", 1.0)
    with pytest.raises(AuditError, match="'speed' was recorded twice"):
        evidence.figure("speed", 2.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_survives_json(value: float) -> None:
    for each in (figure(value), figure(1.0, 0.0, value)):
        again = Figure.model_validate_json(each.model_dump_json())
        assert repr(again) == repr(each)
        assert not again.finite
    assert figure(1.0, 0.5, 1.5).finite


def test_a_note_that_no_file_could_hold_is_escaped() -> None:
    evidence = Evidence()
    evidence.note("a lone surrogate: \ud800")
    assert evidence.notes == ["a lone surrogate: \\ud800"]


def test_attachments_become_plain_json() -> None:
    evidence = Evidence()
    evidence.note("a sentence")
    evidence.attach("curve", {"x": np.arange(3), "y": torch.tensor([0.5]), "t": (1, None), "n": np.int64(4)})
    assert evidence.attachments == {"curve": {"x": [0, 1, 2], "y": [0.5], "t": [1, None], "n": 4}}
    assert evidence.notes == ["a sentence"]


@pytest.mark.parametrize("value", [math.nan, [math.inf], np.array([math.nan]), object(), {1, 2}, "\ud800"])
def test_an_attachment_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(AuditError, match="'curve' is not JSON with finite numbers"):
        Evidence().attach("curve", value)


def written(path: Path, given: Run) -> Path:
    writer = EvidenceWriter(path, given.start)
    for record in given.records:
        writer.check(record)
    if given.end:
        writer.end(given.end)
    return path


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = run(check("a", "1.1.x", figures={"f": figure(0.1, 0.0, 0.2)}), check("b", "1.1.y", outcome="skipped"))
    path = written(tmp_path / "new" / "evidence.jsonl", given)
    assert read_run(path) == given
    assert read_run(written(path, given)) == given  # a second run starts the file anew


def test_a_complete_run_has_no_problems() -> None:
    assert run(check("a", "1.1.x"), check("b", "1.1.x", outcome="failed")).problems == ()


def test_a_killed_run_keeps_its_records_and_is_incomplete(tmp_path: Path) -> None:
    given = run(check("a", "1.1.x"), check("b", "1.1.x"))
    path = written(tmp_path / "evidence.jsonl", given)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:40] + b"\xc5")  # cut within a line and within a character
    found = read_run(path)
    assert found.records == given.records[:1]
    assert found.problems == (
        "1 of 2 checks left no record, the first b",
        "the run was killed before it ended",
    )


@pytest.mark.parametrize(
    ("changes", "end", "problem"),
    [
        ({"collection_errors": ("suites/x.py: boom",)}, 0, "not collected: suites/x.py: boom"),
        ({"selected": ()}, 0, "no check was selected"),
        ({"selected": ("other",)}, 0, "there are records of checks"),
        ({}, 2, "pytest's exit status 2"),
        ({}, 3, "pytest's exit status 3"),
    ],
)
def test_what_makes_a_run_incomplete_is_named(changes: dict[str, object], end: int, problem: str) -> None:
    records = (check("a", "1.1.x"),)
    ended = RunEnd(exit_status=end, finished="", duration=1.0)
    problems = Run(start=start(records, **changes), records=records, end=ended).problems
    assert any(problem in each for each in problems)


def test_a_check_that_was_recorded_twice_is_a_problem() -> None:
    record = check("a", "1.1.x")
    given = run(record)
    assert Run(start=given.start, records=(record, record), end=given.end).problems


def test_files_that_hold_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="cannot read the evidence"):
        read_run(tmp_path / "absent.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(AuditError, match="holds no run"):
        read_run(empty)
    garbled = tmp_path / "garbled.jsonl"
    garbled.write_text("nonsense\n{}\n")
    with pytest.raises(AuditError, match="line 1 is not evidence"):
        read_run(garbled)


def test_evidence_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AuditError, match=r"cannot write .*--out"):
        EvidenceWriter(tmp_path / "file" / "evidence.jsonl", start())
