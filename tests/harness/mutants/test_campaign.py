from __future__ import annotations

import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.mutants import campaign, catalogue
from harness.mutants.audition import Audition, Verdict
from harness.mutants.campaign import Plan, clean_runs, every_check
from harness.mutants.mutant import Mutant, Stage


def chosen(*globs: str) -> tuple[Mutant, ...]:
    return tuple(mutant for each in globs for mutant in catalogue.select(only=each))


def test_a_campaign_in_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first clean run comes before the mutants; what is set for the workers does not stay."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    threads = os.environ.get("OMP_NUM_THREADS")
    told: list[tuple[int, int, str]] = []
    mutants = chosen("gates/missing-passes", "gates/trigger-fixed-at-5")
    matrix = campaign.run(Plan(mutants, jobs=1, seeds=2), lambda *words: told.append(words))
    assert matrix.sound
    assert not matrix.complete
    assert [trial.id for trial in matrix.trials] == [mutant.id for mutant in mutants]
    assert all(not trial.missed and not trial.unexpected for trial in matrix.trials)
    assert matrix.trials[0].witness.startswith("decide_gates(GateMeasurements")
    assert [done for done, *_ in told] == [1, 2, 3, 4]
    assert told[0] == (1, 4, "gates")
    assert {total for _, total, _ in told} == {4}
    assert "HF_HUB_OFFLINE" not in os.environ
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_one_clean_run_serves_all_mutants_on_its_stage() -> None:
    runs = clean_runs(Plan(chosen("quantizer/*", "scales/*"), seeds=1))
    assert [(run.stage, run.seed) for run in runs] == [(Stage("test_quantization.py"), 0)]


def test_checks_that_start_processes_run_with_one_seed_and_the_others_with_all() -> None:
    runs = clean_runs(Plan(catalogue.all_mutants(), seeds=3))
    ours = [run for run in runs if run.stage.suite == "test_artifacts.py"]
    assert [(run.seed, run.stage.only, run.stage.models) for run in ours] == [
        (0, "", ("narrow",)),
        (0, "", ("untied",)),
        (1, "not reloads", ("narrow",)),
        (2, "not reloads", ("narrow",)),
    ]


def test_a_sample_runs_clean_subjects_on_what_its_mutants_run_on() -> None:
    runs = clean_runs(Plan(catalogue.select(area="report"), seeds=2))
    assert [(run.seed, run.stage.only) for run in runs] == [(0, "(not reloads)"), (1, "not reloads")]


def test_a_sample_of_mutants_of_different_checks_runs_their_clean_subject_on_all_of_these() -> None:
    (run,) = clean_runs(Plan(chosen("transformers/a-heavy-import", "transformers/rows-*"), seeds=2))
    assert run.stage.only == (
        "(test_importing_the_package_loads_no_library) or (test_exported_weights_are_the_packed_ones)"
    )


def test_a_run_of_nothing_is_refused() -> None:
    for plan in (Plan(chosen("gates/*"), jobs=0), Plan(chosen("gates/*"), seeds=0)):
        with pytest.raises(AuditError, match="use at least one of each"):
            campaign.run(plan)


def test_the_checks_are_those_of_the_suites() -> None:
    checks = every_check()
    assert "test_packing.py::test_golden_bytes" in checks
    assert "test_mutants.py::test_every_mutant_is_killed" in checks
    assert len(set(checks)) == len(checks)


# --------------------------------------------------------------------------- in a worker


def test_a_mutant_is_set_beside_what_its_clean_subject_answered(tmp_path: Path) -> None:
    (mutant,) = chosen("gates/drop-fixed-at-10")
    (run,) = clean_runs(Plan((mutant,), seeds=1))
    done = campaign._show_clean(run, tmp_path)
    assert campaign._alarms(run, done) == []
    trial = campaign._show_mutant(mutant.id, tmp_path)
    assert (trial.fate, trial.missed, trial.unexpected) == ("killed", (), ())
    assert "decide_gates(" in trial.witness


def verdict(nodeid: str, cell: str | None = "assertion") -> Verdict:
    return Verdict(
        check="test_a.py::test_b",
        nodeid=nodeid,
        criteria=(),
        outcome="failed",
        cell=cell,
        message="AssertionError: 1 == 2",
    )


def test_a_check_is_the_witness_where_no_operation_is() -> None:
    done = Audition((verdict("a::b", None), verdict("a::c"), verdict("a::d")), 1.0)
    assert campaign._check_that_differs(done, ["a::b", "a::d"]) == "d: AssertionError: 1 == 2"
    assert campaign._check_that_differs(done, []) is None


def test_what_turns_red_on_a_clean_subject_is_a_false_alarm() -> None:
    run = campaign.CleanRun("area", "area", Stage("test_a.py"), 7)
    (alarm,) = campaign._alarms(run, Audition((verdict("a::b", None), verdict("a::c")), 1.0))
    assert (alarm.check, alarm.seed, alarm.message) == ("a::c", 7, "AssertionError: 1 == 2")


def test_a_process_that_ends_is_an_error_that_names_the_job(tmp_path: Path) -> None:
    class Pool:
        def submit(self, work, job, scratch):
            from concurrent.futures import Future

            future: Future[None] = Future()
            future.set_exception(BrokenProcessPool())
            return future

    with pytest.raises(AuditError, match="a process ended in the middle of packing/a; run it alone with --only"):
        list(campaign._each(Pool(), print, ["packing/a"], tmp_path))
