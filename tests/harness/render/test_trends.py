from __future__ import annotations

import datetime
import math
import re
from pathlib import Path

import pytest

from harness.criteria import load_rulebook
from harness.evidence import CheckRecord
from harness.history import History, Point, read_history
from harness.render.html import render_html
from harness.render.trends import MOST_RUNS, names_of, trends
from harness.scorecard import build, save
from tests.harness import made_up
from tests.harness.made_up import figure
from tests.harness.render import cards
from tests.harness.render.test_html import Document


def records(ratio: float, speed: float, zero: float = 0.3) -> tuple[CheckRecord, ...]:
    return (
        made_up.check("r", "1.1.compression-ratio", figures={"ratio_over_target": figure(ratio, unit="x")}),
        made_up.check("s", "1.1.inference-speedup", figures={"speedup_ci_low": figure(speed, speed, speed + 0.5, "x")}),
        made_up.check("z", "1.1.sparsity-injection", figures={"zero_fraction": figure(zero)}),
    )


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("history")
    for day, ratio, speed in ((1, 0.9, 1.5), (2, math.nan, 1.8), (4, 1.2, math.inf)):
        started = f"2026-01-{day:02}T03:04:05+00:00"
        save(build(made_up.run(*records(ratio, speed), started=started), load_rulebook()), folder / f"{day}.json")
    (folder / "bad.json").write_text("{")
    now = build(made_up.run(*records(1.1, 2.2), started="2026-01-05T03:04:05+00:00"), load_rulebook())
    return read_history(folder, now)


def test_scores_and_key_figures_are_followed_and_gaps_stay_gaps(history: History) -> None:
    found = trends(history)
    assert found is not None
    assert found.summary == "4 runs of this subject, profile and models, the newest one last"
    assert len(found.overall.table) == 4
    assert [plot.title for plot in found.figures] == ["ratio_over_target", "speedup_ci_low"]
    assert [row[1] for row in found.figures[0].table] == ["0.9", "not measured", "1.2", "1.1"]
    assert found.figures[0].gaps == 1
    assert found.figures[0].rows == (("1.1.compression-ratio", "row-1.1.compression-ratio"),)
    assert any(panel.title == "Core components (1.1)" and panel.value.endswith(" %") for panel in found.panels)
    assert "bad.json is not JSON" in found.unreadable[0]


def test_the_report_has_a_section_of_trends(history: History) -> None:
    document = Document(render_html(build(made_up.run(), load_rulebook()), history))
    ids = document.attributes("id")
    assert len(ids) == len(set(ids))
    assert {"trends", "trend-overall", "trend-1"} <= set(ids)
    assert {reference[1:] for reference in document.attributes("href")} <= set(ids)
    text = " ".join("".join(document.text).split())
    assert "target >= 2.0" in text
    assert "Left out: " in text


def test_there_is_no_trend_before_the_second_run() -> None:
    assert trends(read_history(Path("no-such-folder"), cards.scorecard())) is None


def points(*moments: str, score: float | None = 0.5) -> tuple[Point, ...]:
    return tuple(Point(datetime.datetime.fromisoformat(each), "abcdef0123", score, {}, {}) for each in moments)


def test_runs_are_named_by_what_tells_them_apart() -> None:
    assert names_of(points("2026-01-02T03:04", "2026-02-03T03:04")) == ["01-02 abcdef0", "02-03 abcdef0"]
    assert names_of(points("2025-01-02T03:04", "2026-01-02T03:04"))[0] == "2025-01-02 abcdef0"
    assert names_of(points("2026-01-02T03:04", "2026-01-02T05:04"))[1] == "01-02 05:04 abcdef0"


def test_only_the_latest_of_many_runs_are_drawn_and_nothing_measured_is_drawn_as_nothing() -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    many = points(*((start + datetime.timedelta(days=day)).isoformat() for day in range(MOST_RUNS + 5)), score=None)
    found = trends(History(many))
    assert found is not None
    assert len(found.overall.table) == MOST_RUNS
    assert found.overall.table[0] == ("01-06 abcdef0", "not measured")
    assert (found.panels, found.figures) == ((), ())


def test_a_target_with_two_ends_is_drawn_as_two_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rules = load_rulebook().model_copy(update={"trends": ("1.1.sparsity-injection/zero_fraction",)})
    monkeypatch.setattr("harness.render.trends.load_rulebook", lambda: rules)
    first, second = (
        build(made_up.run(*records(1.0, 2.0, zero), started=f"2026-01-0{day}T00:00:00+00:00"), load_rulebook())
        for day, zero in ((1, 0.2), (2, 0.3))
    )
    save(first, tmp_path / "first.json")
    found = trends(read_history(tmp_path, second, rules))
    assert found is not None
    assert re.findall(r"target, (?:low|high) end", found.figures[0].svg) == ["target, low end", "target, high end"]
