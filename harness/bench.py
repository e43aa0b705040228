"""The benchmark: every row of the speed targets on the full profile, with every opponent that is installed.

It is an audit of those rows alone; beside the scorecard it leaves the table of targets and the raw times in the format
of pytest-benchmark, so that `pytest-benchmark compare` reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from harness import render, run
from harness.errors import AuditError
from harness.files import write_text
from harness.render.targets import render_targets
from harness.scorecard import Scorecard

ROWS: Final = ("A.speed-*", "A.memory-resident")
MODELS: Final = ("smollm2-135m",)
OUT: Final = Path("reports/bench")
TABLE, TIMES = "targets.md", "benchmark.json"


def bench(subject: str, models: tuple[str, ...], out: Path, seed: int = 0) -> Scorecard:
    """Measure and write the scorecard, the table and the times into `out`; raises as `harness.run.audit`."""
    scorecard = run.audit(run.Request(subject, "full", models or MODELS, seed, ROWS, out))
    render.write_reports(scorecard, out)
    write_text(out / TABLE, render_targets(scorecard))
    write_text(out / TIMES, json.dumps(benchmark_json(scorecard), indent=1) + "\n")
    return scorecard


def benchmark_json(scorecard: Scorecard) -> dict[str, Any]:
    """The raw times of every arm in the format of pytest-benchmark, one benchmark for each arm of a race.

    Raises:
        AuditError: pytest-benchmark is not installed.
    """
    try:
        from pytest_benchmark import __version__ as version
        from pytest_benchmark.stats import Stats
    except ModuleNotFoundError as error:
        raise AuditError("the times are written by pytest-benchmark; install it, or run `nox -s bench`") from error
    environment, benchmarks, seen = scorecard.environment, [], set()
    for check in scorecard.checks:
        race = next((note.removeprefix("race: ") for note in check.notes if note.startswith("race: ")), "")
        for arm, seconds in check.timings.items():
            if (race, arm) in seen:
                continue
            seen.add((race, arm))
            stats: Any = Stats()
            for each in seconds:
                stats.update(each)
            told = stats.as_dict() | {"iterations": 1, "data": list(seconds)}
            names = {"group": race, "name": arm, "fullname": f"{check.nodeid}: {arm}", "params": None, "param": None}
            benchmarks.append(names | {"extra_info": {"interleaved": True}, "options": {}, "stats": told})
    machine = {"cpu": {"brand_raw": environment.cpu, "count": environment.cores}, "machine": environment.machine}
    commit = scorecard.commit
    return {
        "machine_info": machine | {"python_version": environment.python, "system": environment.platform},
        "commit_info": {"id": commit.id if commit else None, "dirty": commit.dirty if commit else None},
        "benchmarks": benchmarks,
        "datetime": scorecard.started,
        "version": version,
    }
