"""All changes to a file, each shown to the tests of that file, several at a time."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.errors import AuditError
from harness.scratch import scratch_folder
from harness.source_mutants import trial
from harness.source_mutants.mutations import Mutation, mutations_of
from harness.source_mutants.report import FileReport, Trial
from harness.source_mutants.scope import TESTS, digest

Progress = Callable[[int, int, Trial], None]
"""Told after each change: how many have been tried, of how many, and what became of the last one."""


def run(
    file: str,
    jobs: int,
    before: FileReport | None = None,
    progress: Progress = lambda *_: None,
) -> FileReport:
    """Try every change to a file; with an earlier report, only those that survived then.

    What was noticed then is taken to be noticed still, which is so where tests have only been added.

    Raises:
        AuditError: the file is none that is changed, its tests fail as it is, or `before` is of another source.
    """
    if file not in TESTS:
        raise AuditError(f"there are no tests to show changes to {file} to; choose among {', '.join(TESTS)}")
    began = time.perf_counter()
    source = (trial.ROOT / file).read_text(encoding="utf-8")
    found = mutations_of(source, file)
    known = _known(before, source, file)
    asked = [mutation for mutation in found.made if mutation.key not in known]
    tried = dict(known)
    with scratch_folder("source-mutants") as scratch:
        rehearsal = trial.rehearse(file, TESTS[file], scratch)
        trial.preload(rehearsal.modules)
        gc.freeze()  # what the children share is not to be copied because a collector has looked at it
        for number, (mutation, result) in enumerate(_each(asked, rehearsal, jobs, scratch), start=1):
            tried[mutation.key] = result
            progress(number, len(asked), result)
    trials = tuple(tried[each.key] for each in found.made)
    seconds = time.perf_counter() - began
    return FileReport(
        file=file,
        tests=TESTS[file],
        digest=digest(source),
        trials=trials,
        left_out=found.left_out,
        seconds=seconds + (before.seconds if before else 0.0),
    )


def _known(before: FileReport | None, source: str, file: str) -> dict[tuple[int, str], Trial]:
    if before is None:
        return {}
    if before.digest != digest(source):
        raise AuditError(f"{file} has changed since its survivors were found; try all of its changes again")
    return {(each.line, each.change): each for each in before.trials if each.fate != "survived"}


def _each(
    mutations: Sequence[Mutation], rehearsal: trial.Rehearsal, jobs: int, scratch: Path
) -> Iterator[tuple[Mutation, Trial]]:
    """The results as they come, so many children at a time; what no test reaches is shown to none."""
    running: dict[int, tuple[BaseProcess, Mutation, Path]] = {}
    waiting = [each for each in mutations if rehearsal.reaches(each.line, each.end_line)]
    for mutation in mutations:
        if mutation not in waiting:
            yield mutation, _trial(mutation, "survived", "")
    numbered = enumerate(waiting)
    while True:
        for number, mutation in itertools.islice(numbered, jobs - len(running)):
            result = scratch / f"{number}.json"
            order = rehearsal.first(mutation.line, mutation.end_line)
            tests = TESTS[mutation.file]
            child = trial.show(mutation.file, mutation.source, tests, order, result, rehearsal.limit)
            running[child.sentinel] = (child, mutation, result)
        if not running:
            return
        for sentinel in list(running.keys() & set(wait(list(running)))):
            child, mutation, result = running.pop(sentinel)
            child.join()
            yield mutation, _trial(mutation, *trial.fate_of(child.exitcode, result))


def _trial(mutation: Mutation, fate: trial.Fate, killer: str) -> Trial:
    return Trial(line=mutation.line, function=mutation.function, change=mutation.change, fate=fate, killer=killer)
