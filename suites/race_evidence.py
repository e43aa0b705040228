"""How a race is written down: the ratio that a row is judged on, every arm's rate and time, who was absent and why."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.evidence import Evidence
from harness.races import Finish
from harness.statistics import Interval


def record_ratio(evidence: Evidence, finish: Finish, figure: str, opponent: str, unit: str = "x") -> Interval:
    """Record the subject's speed over an opponent's as `figure`; a check without that opponent is skipped, with why."""
    if not finish.took_part(opponent):
        pytest.skip("; ".join(finish.race.absent) or f"{opponent} is absent")
    ratio = finish.speedup(opponent)
    evidence.figure(figure, ratio.value, unit, interval=(ratio.low, ratio.high), timing=True)
    record_race(evidence, finish)
    return ratio


def record_race(evidence: Evidence, finish: Finish) -> None:
    """Record the A/A control, the raw times, each arm's settings and who was absent; a race must be sound."""
    control = finish.control
    evidence.figure("control_ratio", control.value, "x", interval=(control.low, control.high), timing=True)
    for name, seconds in finish.seconds.items():
        evidence.times(name, seconds)
    for entry in finish.race.entries:
        evidence.figure(f"rate of {entry.arm.name}", finish.rate(entry.arm.name), finish.race.unit, timing=True)
    assert finish.sound, "the subject was measured as different from itself; run again on a quiet machine"
    for words in (f"race: {finish.race.title}", *finish.race.settings, *finish.race.absent):
        evidence.note(words)


def strongest(finish: Finish, names: Sequence[str]) -> str:
    """The fastest of the arms named; a check without any of them is skipped, with why."""
    fastest = finish.fastest(names)
    if fastest is None:
        pytest.skip("; ".join(finish.race.absent) or f"none of {', '.join(names)} is present")
    return fastest


def attach_ratios(evidence: Evidence, finish: Finish) -> None:
    """Attach a plot of the subject's speed over each arm's, with intervals."""
    ratios = {entry.arm.name: finish.speedup(entry.arm.name) for entry in finish.race.opponents}
    evidence.attach(
        "ratios",
        {
            "plot": "bar",
            "title": f"Speed of the subject over each opponent: {finish.race.title}",
            "x": list(ratios),
            "y": {"ratio": [ratio.value for ratio in ratios.values()]},
            "intervals": {"ratio": [[ratio.low, ratio.high] for ratio in ratios.values()]},
            "x_label": "opponent",
            "y_label": "times as fast",
            "y_scale": "log",
            "limits": {"as fast": 1.0},
            "timing": True,
        },
    )
