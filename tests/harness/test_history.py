from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.criteria import parse_rulebook
from harness.errors import AuditError
from harness.evidence import CheckRecord, SubjectInfo
from harness.history import read_history
from harness.scorecard import Scorecard, build, save
from tests.harness.made_up import check, criterion, figure, rulebook_data, run

RULES = parse_rulebook(
    rulebook_data(criterion("1.a", figures={"ratio": {"target": ">= 8"}, "other": {"target": ">= 0"}}))
    | {"trends": ["1.a/ratio"]},
    "made-up.toml",
)


def card(day: int, *values: float, **changes: object) -> Scorecard:
    figures = {"other": figure(1.0)}
    records: tuple[CheckRecord, ...] = tuple(
        check(f"r{number}", "1.a", figures={"ratio": figure(value), **figures}) for number, value in enumerate(values)
    )
    return build(run(*records, started=f"2026-01-{day:02}T03:04:05+00:00", **changes), RULES)


def test_runs_come_in_order_of_time_with_their_scores_and_worst_figures(tmp_path: Path) -> None:
    save(card(3, 9.0, 7.0), tmp_path / "a.json")
    save(card(1, 9.0), tmp_path / "b.json")
    history = read_history(tmp_path, card(2, 8.5), RULES)
    assert [point.started.day for point in history.points] == [1, 2, 3]
    assert [point.overall for point in history.points] == [1.0, 1.0, 0.0]
    assert [point.figures["1.a/ratio"].value for point in history.points] == [9.0, 8.5, 7.0]
    assert set(history.points[0].figures) == {"1.a/ratio"}  # the one that the rulebook follows
    assert history.points[0].categories == {"parts": 1.0, "scores": None}
    assert history.unreadable == ()


def test_a_run_that_is_kept_is_there_once(tmp_path: Path) -> None:
    given = card(1, 9.0)
    save(given, tmp_path / "a.json")
    save(given, tmp_path / "a-2.json")
    assert len(read_history(tmp_path, given, RULES).points) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": "full"},
        {"models": ("other",)},
        {"only": ("1.a",)},
        {"selected": ("r0", "lost")},
        {"subject": SubjectInfo(name="another", version="1.0", spec="x")},
    ],
)
def test_runs_that_cannot_be_compared_are_not_history(tmp_path: Path, changes: dict[str, object]) -> None:
    save(card(1, 9.0, **changes), tmp_path / "a.json")
    assert len(read_history(tmp_path, card(2, 9.0), RULES).points) == 1


def test_files_that_are_no_scorecards_are_named_and_older_versions_are_read(tmp_path: Path) -> None:
    save(card(1, 9.0), tmp_path / "old.json")
    data = json.loads((tmp_path / "old.json").read_text())
    del data["rules"]
    (tmp_path / "old.json").write_text(json.dumps(data | {"schema_version": 1}))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "when.json").write_text(json.dumps(json.loads(_text(card(3, 9.0))) | {"started": "yesterday"}))
    history = read_history(tmp_path, card(2, 9.0), RULES)
    assert [point.started.day for point in history.points] == [1, 2]
    assert "bad.json is not JSON" in history.unreadable[0]
    assert "started at 'yesterday', which is no time" in history.unreadable[1]


def _text(scorecard: Scorecard) -> str:
    return scorecard.model_dump_json()


def test_no_directory_is_no_history_and_a_time_without_a_zone_is_utc(tmp_path: Path) -> None:
    given = build(run(started="2026-01-02T03:04:05"), RULES)
    (point,) = read_history(tmp_path / "absent", given, RULES).points
    assert point.started.isoformat() == "2026-01-02T03:04:05+00:00"
    with pytest.raises(AuditError, match="the scorecard started at ''"):
        read_history(tmp_path, build(run(started=""), RULES), RULES)
