"""All mutants and their clean subjects, each shown to its suite, in processes of their own that work side by side."""

from __future__ import annotations

import ast
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from harness.errors import AuditError
from harness.mutants import catalogue
from harness.mutants.audition import Audition, audition
from harness.mutants.matrix import FalseAlarm, Matrix, Trial, tried
from harness.mutants.mutant import Mutant, Stage
from harness.mutants.trace import difference, load_calls
from harness.run import suites_directory
from harness.scratch import scratch_folder

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")
Progress = Callable[[int, int, str], None]
"""Told after each job: how many are done, of how many, and which one it was."""


@dataclass(frozen=True)
class Plan:
    """What to run: which mutants, how many of them at a time, and the clean subjects with how many seeds."""

    mutants: tuple[Mutant, ...]
    jobs: int = 2
    seeds: int = 20

    @property
    def complete(self) -> bool:
        """Whether these are all mutants."""
        return len(self.mutants) == len(catalogue.all_mutants())


@dataclass(frozen=True)
class CleanRun:
    """A clean subject, made by an area that has it, on a stage with one seed."""

    area: str
    clean_name: str
    stage: Stage
    seed: int


def run(plan: Plan, progress: Progress = lambda *_: None) -> Matrix:
    """Run everything and gather the matrix.

    Raises:
        AuditError: fewer than one job or seed, a suite that cannot be run, or a mutant that takes its process along.
    """
    if plan.jobs < 1 or plan.seeds < 1:
        raise AuditError(f"{plan.jobs} jobs and {plan.seeds} seeds were asked for; use at least one of each")
    began = time.perf_counter()
    clean = clean_runs(plan)
    total = len(clean) + len(plan.mutants)
    done = 0
    alarms: list[FalseAlarm] = []
    trials: dict[str, Trial] = {}
    with scratch_folder("mutants") as scratch, _workers(plan.jobs) as pool:

        def told(name: str) -> None:
            nonlocal done
            done += 1
            progress(done, total, name)

        first = [each for each in clean if each.seed == 0]
        for each, audit in _each(pool, _show_clean, first, scratch):
            alarms += _alarms(each, audit)
            told(each.area)
        # A mutant is set beside what its clean subject answered, so that one had to come first.
        for mutant, trial in _each(pool, _show_mutant, [mutant.id for mutant in plan.mutants], scratch):
            trials[mutant] = trial
            told(mutant)
        for each, audit in _each(pool, _show_clean, [each for each in clean if each.seed], scratch):
            alarms += _alarms(each, audit)
            told(each.area)
    return Matrix(
        complete=plan.complete,
        seeds=plan.seeds,
        available=len(catalogue.all_mutants()),
        trials=tuple(trials[mutant.id] for mutant in plan.mutants),
        checks=every_check(),
        set_aside=dict(catalogue.absent()),
        false_alarms=tuple(sorted(alarms, key=lambda alarm: (alarm.suite, alarm.check, alarm.seed))),
        seconds=time.perf_counter() - began,
    )


def clean_runs(plan: Plan) -> tuple[CleanRun, ...]:
    """The clean subjects that the mutants are set beside: each with seed 0, on all checks if the plan is complete, then
    with the other seeds.

    Checks that a family leaves out because they start processes run with seed 0 alone, whichever mutant they are for.
    """
    found: dict[tuple[str, Stage], CleanRun] = {}
    repeated: list[CleanRun] = []
    for mutant in plan.mutants:
        family = catalogue.family_of(mutant)
        key = (family.clean_name, mutant.stage.whole)
        if key not in found:
            first = mutant.stage.whole if plan.complete else _together(plan.mutants, *key)
            found[key] = CleanRun(family.area, family.clean_name, first, 0)
            if mutant.stage == family.stage or not mutant.stage.only:
                others = range(1, plan.seeds)
                repeated += [CleanRun(family.area, family.clean_name, mutant.stage, seed) for seed in others]
    return (*found.values(), *repeated)


def _together(mutants: Sequence[Mutant], clean_name: str, whole: Stage) -> Stage:
    """A stage with the checks that any of these mutants is shown of one clean subject's."""
    of_subject = [mutant for mutant in mutants if catalogue.family_of(mutant).clean_name == clean_name]
    asked = dict.fromkeys(mutant.stage.only for mutant in of_subject if mutant.stage.whole == whole)
    return whole if "" in asked else replace(whole, only=" or ".join(f"({each})" for each in asked))


def every_check() -> tuple[str, ...]:
    """All checks of all suites, from their source, as `file::function`."""
    found = []
    for file in sorted(suites_directory().glob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        found += [f"{file.name}::{name}" for name in functions if name.startswith("test_")]
    return tuple(found)


# --------------------------------------------------------------------------- in a worker


def _show_clean(run: CleanRun, scratch: Path) -> Audition:
    place = _place(scratch, run.clean_name, run.stage)
    calls = place.with_suffix(".calls") if run.seed == 0 else None
    done = audition(run.stage, run.area, _own_folder(scratch), scratch, run.seed, calls=calls)
    if calls:
        passed = [verdict.nodeid for verdict in done.verdicts if verdict.outcome == "passed"]
        place.with_suffix(".json").write_text(json.dumps(passed), encoding="utf-8")
    return done


def _show_mutant(name: str, scratch: Path) -> Trial:
    (mutant,) = (each for each in catalogue.all_mutants() if each.id == name)
    calls = _own_folder(scratch).with_suffix(".calls")
    props = (mutant.prop,) if mutant.prop else ()
    done = audition(mutant.stage, name, _own_folder(scratch), scratch, props=props, calls=calls)
    place = _place(scratch, catalogue.family_of(mutant).clean_name, mutant.stage)
    witness = difference(load_calls(place.with_suffix(".calls")), load_calls(calls))
    passed = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
    return tried(mutant, done, witness or _check_that_differs(done, passed))


def _check_that_differs(done: Audition, passed: Sequence[str]) -> str | None:
    """A check, as an operation with its inputs, that the clean subject has passed and this one does not."""
    for verdict in done.verdicts:
        if verdict.cell is not None and verdict.nodeid in passed:
            return f"{verdict.nodeid.rpartition('::')[2]}: {verdict.message}"
    return None


def _own_folder(scratch: Path) -> Path:
    return scratch / f"worker-{os.getpid()}"


def _place(scratch: Path, clean_name: str, stage: Stage) -> Path:
    """Where it stands what a clean subject answered on a stage."""
    return scratch / f"{zlib.crc32(repr((clean_name, stage.whole)).encode()):08x}"


def _alarms(run: CleanRun, done: Audition) -> list[FalseAlarm]:
    return [
        FalseAlarm(suite=run.stage.suite, area=run.area, check=verdict.nodeid, seed=run.seed, message=verdict.message)
        for verdict in done.verdicts
        if verdict.cell is not None
    ]


# --------------------------------------------------------------------------- processes


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, each with one thread: two OpenMP runtimes that share two cores spend their time waiting.

    Nothing is compiled that runs once.
    """
    settings = {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    settings |= {"HF_HUB_OFFLINE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _each(
    pool: ProcessPoolExecutor, work: Callable[[JobT, Path], ResultT], jobs: Sequence[JobT], scratch: Path
) -> Iterator[tuple[JobT, ResultT]]:
    """The results of all jobs, as they come."""
    futures: dict[Future[ResultT], JobT] = {pool.submit(work, job, scratch): job for job in jobs}
    for future in as_completed(futures):
        try:
            yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise AuditError(
                f"a process ended in the middle of {futures[future]}; run it alone with --only to see why"
            ) from error
