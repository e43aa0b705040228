"""One table for every benchmark: each opponent's rate, and the ratio to it with its 95 % interval."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from harness.environment import describe_environment
from harness.statistics import Arm, compare


@dataclass(frozen=True)
class Contest:
    """Our arm against opponents that do the same work; `work` is how much a run does, in `unit`."""

    title: str
    ours: Arm
    opponents: tuple[Arm, ...]
    work: float
    unit: str


def hold(contest: Contest, rounds: int) -> dict[str, object]:
    """Time a contest, print its rows and return them with the raw times in seconds."""
    comparisons, times = compare(contest.ours, contest.opponents, rounds)
    print(f"| {contest.title}: {contest.ours.name} | {_rate(contest, times[contest.ours.name])} | |", flush=True)
    rows = []
    for found in comparisons:
        # The harness gives the opponent's speed-up over us; turned over, the ends of its interval change places.
        ours = {"value": 1 / found.speedup.value, "low": 1 / found.speedup.high, "high": 1 / found.speedup.low}
        ratio = f"{ours['value']:.2f}x ({ours['low']:.2f} to {ours['high']:.2f})"
        doubt = "" if found.sound else " (A/A control off: run again on a quiet machine)"
        print(f"| vs {found.candidate} | {_rate(contest, times[found.candidate])} | {ratio}{doubt} |", flush=True)
        rows.append({"opponent": found.candidate, "ratio": ours, "control": asdict(found.control)})
    return {
        "title": contest.title,
        "work": contest.work,
        "unit": contest.unit,
        "settings": {arm.name: dict(arm.settings) for arm in (contest.ours, *contest.opponents)},
        "rows": rows,
        "seconds": times,
    }


def run(contests: Callable[[], list[Contest]], description: str, default_rounds: int) -> None:
    """The command line of a benchmark: `--rounds N --out FILE`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=default_rounds, help="interleaved rounds of every contest")
    parser.add_argument("--out", type=Path, help="JSON file for figures, raw times and the environment")
    options = parser.parse_args()
    print("| arm | rate | ratio (95 % interval) |\n|---|---|---|")
    results = [hold(contest, options.rounds) for contest in contests()]
    if options.out:
        record = {"description": description, "environment": describe_environment().model_dump(), "contests": results}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _rate(contest: Contest, times: list[float]) -> str:
    return f"{contest.work / median(times):.1f} {contest.unit}"
