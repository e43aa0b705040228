from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.criteria import Rulebook, Status, load_rulebook
from harness.errors import AuditError
from harness.evidence import CheckRecord, Run
from harness.scorecard import (
    OLDEST_VERSION,
    SCHEMA_VERSION,
    TIME_FIELDS,
    Row,
    Scorecard,
    build,
    load,
    parse,
    recompute,
    save,
    to_json,
    without_times,
)
from tests.harness.made_up import check, criterion, deselected, figure, rulebook, run, start

PERCENT = {"line": {"target": ">= 90", "unit": "%"}, "branch": {"target": ">= 90", "unit": "%"}}


@pytest.fixture
def rules() -> Rulebook:
    return rulebook(
        criterion("0.mean", category="scores", weight=0.0, derive={"mean_of": ["1.*"]}),
        criterion("0.all", category="scores", weight=0.0, derive={"mean_of": ["0.mean", "1.*"]}),
        criterion("0.lowest", category="scores", weight=0.0, derive={"figure_of": ["2.c/line", "2.c/branch"]}),
        criterion("1.a", figures={"ratio": {"target": ">= 8", "tolerance": ">= 6"}}),
        criterion("1.b", weight=3.0),
        criterion("2.c", figures=PERCENT),
    )


def row(scorecard: Scorecard, criterion_id: str) -> Row:
    found = scorecard.row(criterion_id)
    assert found is not None
    return found


def coverage(line: float, branch: float | None) -> CheckRecord:
    figures = {"line": figure(line)} | ({} if branch is None else {"branch": figure(branch)})
    return check("c", "2.c", figures=figures)


def test_rows_come_in_the_order_of_the_rulebook_with_what_they_rest_on(rules: Rulebook) -> None:
    records = (check("x", "1.b", "1.a", figures={"ratio": figure(9.0)}), check("y", "1.b"))
    scorecard = build(run(*records, deselected=[deselected("z", "1.b")]), rules)
    assert [each.id for each in scorecard.criteria] == [each.id for each in rules.criteria]
    found = row(scorecard, "1.b")
    assert (found.status, found.checks, found.deselected) == (Status.GREEN, ("x", "y"), ("z",))
    assert scorecard.checks_of(found) == records
    assert [each.value for each in row(scorecard, "1.a").figures] == [9.0]
    assert scorecard.row("9.z") is None


def test_a_row_names_the_command_that_reproduces_it(rules: Rulebook) -> None:
    given = run(check("x", "1.b"), seed=7, profile="full", models=("my model", "tiny"))
    assert row(build(given, rules), "1.b").command == (
        "bitnet-audit run --subject made_up.py:Subject --profile full --model 'my model' --model tiny "
        "--seed 7 --only 1.b"
    )


def test_a_mean_weighs_rows_and_counts_grey_as_nothing(rules: Rulebook) -> None:
    found = row(build(run(check("x", "1.b")), rules), "0.mean")
    assert found.score == 0.75
    assert (found.status, found.credit) == (Status.YELLOW, 0.5)
    assert found.derived_from == ("1.a", "1.b")
    assert found.arithmetic == (
        "sum of weight x credit 3 / sum of weights 4 = 75.0 %; 1 of 2 rows not measured (credit 0)"
    )


@pytest.mark.parametrize(
    ("ratio", "score", "status"), [(8.0, 1.0, "GREEN"), (6.0, 0.875, "YELLOW"), (5.0, 0.75, "YELLOW")]
)
def test_yellow_is_worth_half(rules: Rulebook, ratio: float, score: float, status: str) -> None:
    scorecard = build(run(check("x", "1.b"), check("y", "1.a", figures={"ratio": figure(ratio)})), rules)
    assert row(scorecard, "0.mean").score == score
    assert row(scorecard, "0.mean").status == status


def test_a_mean_of_nothing_measured_is_grey(rules: Rulebook) -> None:
    found = row(build(run(coverage(95, 95)), rules), "0.mean")
    assert (found.status, found.score, found.reason) == (Status.GREY, None, "none of the 2 rows was measured")


def test_a_row_may_derive_from_a_derived_row(rules: Rulebook) -> None:
    found = row(build(run(check("x", "1.b")), rules), "0.all")
    assert found.score == 0.75
    assert found.derived_from == ("0.mean", "1.a", "1.b")


def test_rows_that_derive_from_each_other_are_refused() -> None:
    rules = rulebook(criterion("1.a", derive={"mean_of": ["1.b"]}), criterion("1.b", derive={"mean_of": ["1.a"]}))
    with pytest.raises(AuditError, match=r"1\.a derives from itself"):
        build(run(check("x", "1.c")), rules)


@pytest.mark.parametrize(
    ("line", "branch", "score", "status"),
    [
        (95.0, 90.0, 0.90, "GREEN"),
        (95.0, 72.0, 0.72, "YELLOW"),
        (40.0, 95.0, 0.40, "RED"),
        (95.0, math.nan, 0.0, "RED"),
        (math.inf, math.inf, 0.0, "RED"),
        (95.0, None, 0.0, "RED"),
    ],
)
def test_the_lowest_figure_is_a_score(
    rules: Rulebook, line: float, branch: float | None, score: float, status: str
) -> None:
    found = row(build(run(coverage(line, branch)), rules), "0.lowest")
    assert found.score == pytest.approx(score)
    assert found.status == status


def test_a_figure_that_was_not_measured_leaves_its_score_grey(rules: Rulebook) -> None:
    found = row(build(run(check("x", "1.b")), rules), "0.lowest")
    assert (found.status, found.score) == (Status.GREY, None)
    assert found.reason == "not measured: 2.c/line, 2.c/branch"


def test_categories_and_overall_add_up(rules: Rulebook) -> None:
    scorecard = build(run(check("x", "1.b"), coverage(50, 95)), rules)
    parts, scores = scorecard.categories
    assert (parts.id, parts.title, parts.score) == ("parts", "Parts", 0.6)
    assert parts.counts == {Status.GREEN: 1, Status.YELLOW: 0, Status.RED: 1, Status.GREY: 1}
    assert (scores.score, scores.arithmetic) == (None, "these rows carry no weight")
    assert scorecard.overall.score == 0.6
    assert sum(scorecard.overall.counts.values()) == len(rules.criteria)


def test_the_whole_audit_without_evidence_is_grey_and_incomplete() -> None:
    scorecard = build(run())
    assert {each.status for each in scorecard.criteria} == {Status.GREY}
    assert scorecard.overall.score == 0.0
    assert not scorecard.complete
    assert len(scorecard.criteria) == len(load_rulebook().criteria)


def test_an_interrupted_run_gives_a_scorecard_that_says_so(rules: Rulebook) -> None:
    records = (check("x", "1.b"),)
    scorecard = build(Run(start=start(records), records=records, end=None), rules)
    assert not scorecard.complete
    assert scorecard.problems == ("the run was killed before it ended",)
    assert recompute(scorecard, rules) == scorecard


@pytest.fixture
def scorecard(rules: Rulebook) -> Scorecard:
    records = (
        check("x", "1.a", figures={"ratio": figure(math.nan, 0.0, math.inf)}),
        check("y", "1.b", outcome="failed", message="no"),
    )
    return build(run(*records, coverage(91, 92), deselected=[deselected("z", "1.b")], commit=None), rules)


def test_a_scorecard_survives_its_file(scorecard: Scorecard, tmp_path: Path) -> None:
    path = save(scorecard, tmp_path / "reports" / "scorecard.json")
    again = load(path)
    assert to_json(again) == to_json(scorecard) == path.read_text(encoding="utf-8")
    assert math.isnan(row(again, "1.a").figures[0].value)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_recomputing_gives_the_same_scorecard(scorecard: Scorecard, rules: Rulebook) -> None:
    assert to_json(recompute(scorecard, rules)) == to_json(scorecard)


def test_runs_differ_in_times_only(rules: Rulebook) -> None:
    def scorecard_at(moment: str, duration: float) -> Scorecard:
        records = tuple(
            each.model_copy(update={"duration": duration}) for each in (check("x", "1.b"), check("y", "1.a"))
        )
        return build(run(*records, started=moment), rules)

    first, second = scorecard_at("2026-01-01T00:00:00+00:00", 1.0), scorecard_at("2026-01-02T00:00:00+00:00", 2.0)
    assert to_json(first) != to_json(second)
    assert without_times(first) == without_times(second)
    text = json.dumps(without_times(first))
    assert not any(f'"{name}"' in text for name in TIME_FIELDS)


def timed(ratios: dict[str, float], seconds: float, steady: float = 7.0) -> dict[str, Any]:
    """The comparable part of a scorecard with a timing measured by several checks, and a figure that is none."""
    rules = rulebook(criterion("1.a", figures={"ratio": {"target": ">= 2"}, "steady": {"target": ">= 1"}}))
    records = tuple(
        check(
            name, "1.a", figures={"ratio": figure(value, value / 2, 2 * value).model_copy(update={"timing": True})}
        ).model_copy(update={"timings": {"arm": (seconds, seconds)}})
        for name, value in ratios.items()
    )
    return without_times(build(run(*records, check("z", "1.a", figures={"steady": figure(steady)})), rules))


def test_figures_that_are_timings_differ_between_runs_and_are_left_out() -> None:
    first = timed({"x": 3.0, "y": 4.0}, 0.5)
    assert first == timed({"x": 5.0, "y": 2.5}, 0.25)
    assert {each["name"] for each in first["criteria"][0]["figures"]} == {"ratio", "steady"}
    assert first["checks"][2]["figures"]["steady"]["value"] == 7.0


def test_a_status_that_a_timing_turned_is_a_difference() -> None:
    assert timed({"x": 3.0, "y": 4.0}, 0.5) != timed({"x": 1.0, "y": 4.0}, 0.5)


def test_a_figure_beside_a_timing_is_compared() -> None:
    assert timed({"x": 3.0}, 0.5) != timed({"x": 3.0}, 0.5, steady=8.0)


def test_a_row_names_where_it_ran_and_the_artefacts_that_it_looked_at(rules: Rulebook) -> None:
    x = check("x", "1.b").model_copy(update={"artefacts": {"tiny packed": "sha256:12"}})
    y = check("y", "1.b", "1.a").model_copy(update={"artefacts": {"other": "sha256:34"}})
    scorecard = build(run(x, y), rules)
    found = row(scorecard, "1.b")
    assert found.artefacts == {"tiny packed": "sha256:12", "other": "sha256:34"}
    assert row(scorecard, "1.a").artefacts == {"other": "sha256:34"}
    assert (found.environment, found.commit) == (scorecard.environment.fingerprint, "0123456789abcdef")
    assert row(build(run(x, commit=None), rules), "0.mean").commit is None


def test_a_scorecard_names_the_rules_that_judged(rules: Rulebook) -> None:
    assert build(run(), rules).rules == rules.digest != rulebook(criterion("1.a")).digest


def test_the_older_version_is_read_with_nothing_in_place_of_what_it_lacks(scorecard: Scorecard) -> None:
    data = json.loads(to_json(scorecard)) | {"schema_version": OLDEST_VERSION}
    del data["rules"]
    for each in data["criteria"]:
        for absent in ("artefacts", "environment", "commit"):
            del each[absent]
    for each in data["checks"]:
        for absent in ("artefacts", "line"):
            del each[absent]
    found = parse(data, "old.json")
    assert (found.schema_version, found.rules, found.criteria[0].environment) == (SCHEMA_VERSION, "", "")
    assert [each.status for each in found.criteria] == [each.status for each in scorecard.criteria]
    with pytest.raises(AuditError, match=r"old\.json has schema version 1, not 2; run the audit again"):
        parse(data, "old.json", oldest=SCHEMA_VERSION)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "has schema version"),
        ({"schema_version": None}, "has schema version None"),
        ({"profile": "slow"}, "is no scorecard: profile"),
        ({"extra": 1}, "is no scorecard: extra"),
        ({"criteria": [{}]}, r"is no scorecard: criteria\.0"),
    ],
)
def test_damaged_data_is_refused_with_its_place(scorecard: Scorecard, change: dict[str, Any], fault: str) -> None:
    with pytest.raises(AuditError, match=fault):
        parse(json.loads(to_json(scorecard)) | change, "scorecard.json")


def test_what_is_no_scorecard_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"cannot read the scorecard .*run the audit first"):
        load(tmp_path / "absent.json")
    path = tmp_path / "scorecard.json"
    path.write_text("{")
    with pytest.raises(AuditError, match="is not JSON"):
        load(path)
    path.write_text("[]")
    with pytest.raises(AuditError, match="has schema version None"):
        load(path)


def test_numbers_of_plots_of_timings_are_left_out(rules: Rulebook) -> None:
    plot = {"plot": "bar", "title": "Rates", "x": ["a"], "timing": True}

    def compared(rate: float, timing: bool) -> dict[str, object]:
        drawn = plot | {"y": {"rate": [rate]}, "timing": timing}
        record = check("x", "1.a").model_copy(update={"attachments": {"rates": drawn, "table": [1, 2]}})
        return without_times(build(run(record), rules))

    assert compared(1.0, timing=True) == compared(2.0, timing=True)
    assert compared(1.0, timing=False) != compared(2.0, timing=False)
    (kept,) = compared(1.0, timing=True)["checks"]
    assert kept["attachments"] == {"rates": {"plot": "bar", "title": "Rates", "timing": True}, "table": [1, 2]}
