from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.errors import AuditError
from harness.mutants import campaign, catalogue
from harness.mutants.campaign import Plan
from harness.mutants.matrix import Matrix
from tests.harness.mutants.made_up import matrix, trial

SURVIVOR = matrix(trial(), trial("second", fate="survived", red={}))


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch):
    """Let every run have this outcome, and see what was asked for."""
    plans: list[Plan] = []

    def set_to(made: Matrix) -> list[Plan]:
        def run(plan: Plan, progress) -> Matrix:
            progress(1, 2, "packing/a")
            plans.append(plan)
            return made

        monkeypatch.setattr(campaign, "run", run)
        return plans

    return set_to


def call(*words: str):
    return CliRunner().invoke(cli.app, ["mutants", *words])


def test_a_sound_run_prints_the_matrix_and_ends_with_0(outcome) -> None:
    plans = outcome(matrix())
    done = call()
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("2 mutants: 2 killed, 0 survived")
    (plan,) = plans
    assert plan == Plan(catalogue.all_mutants(), 2, 20)
    assert plan.complete


def test_a_survivor_ends_with_1_and_is_named(outcome) -> None:
    outcome(SURVIVOR)
    done = call()
    assert done.exit_code == 1
    assert "survived: area/second" in done.stdout


def test_json_is_all_that_is_printed(outcome) -> None:
    outcome(SURVIVOR)
    done = call("--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["survivors"] == ["area/second"]


def test_reports_go_where_they_are_asked_for(outcome, tmp_path: Path) -> None:
    outcome(matrix())
    assert f"{tmp_path / 'out'}/matrix.html" in call("--out", str(tmp_path / "out")).stdout.replace("\n", "")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".md", ".html"}
    assert json.loads((tmp_path / "out" / "matrix.json").read_text())["killed"] == 2


def test_mutants_are_chosen_as_asked(outcome) -> None:
    plans = outcome(matrix())
    call("--area", "packing", "--jobs", "1", "--seeds", "3")
    call("--only", "gates/*", "--sample", "3", "--seed", "1")
    call("--sample", "3", "--seed", "1")
    assert plans[0] == Plan(catalogue.select(area="packing"), 1, 3)
    assert {mutant.area for mutant in plans[1].mutants} == {"gates"}
    assert [len(plan.mutants) for plan in plans[1:]] == [3, 3]
    assert not any(plan.complete for plan in plans)


def test_a_choice_of_nothing_is_refused_in_a_sentence() -> None:
    done = call("--area", "nowhere")
    assert isinstance(done.exception, AuditError)
    assert "there is no area 'nowhere'" in str(done.exception)
