"""Raw times read back from a pytest-benchmark file, and the speed-ups that follow from them.

`bitnet-audit bench` writes such files; so does `pytest --benchmark-save-data --benchmark-json FILE`. Ours mark series
of one interleaved run, whose rounds are paired. Others were timed one after the other: drift counts as a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from harness.errors import AuditError
from harness.files import parse_json, read_text
from harness.races import AGAIN
from harness.statistics import CONTROL_CONFIDENCE, Interval, ratio_interval


class _Stats(BaseModel):
    data: tuple[float, ...] = ()


class _Benchmark(BaseModel):
    name: str
    group: str | None = None
    stats: _Stats
    extra_info: dict[str, object] = Field(default_factory=dict)


class _File(BaseModel):
    benchmarks: tuple[_Benchmark, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Series:
    """The times of one arm in seconds, in the order of its rounds; `interleaved` with the others of its group."""

    group: str
    name: str
    seconds: tuple[float, ...]
    interleaved: bool


@dataclass(frozen=True)
class Speedup:
    """How many times as fast an arm is as the baseline of its group, by median times, with the 95 % interval.

    `sound` is None where the baseline did not run twice, so that nothing says what the run would make of equal arms.
    """

    group: str
    baseline: str
    name: str
    ratio: Interval
    interleaved: bool
    sound: bool | None


def read_benchmark(path: Path) -> tuple[Series, ...]:
    """Every series of a file; raises AuditError where it cannot be read or holds no raw times."""
    text = read_text(path, "the times", "name a pytest-benchmark file")
    try:
        found = _File.model_validate(parse_json(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise AuditError(f"{path} is no pytest-benchmark file: {where}: {first['msg']}; save the run anew") from error
    except ValueError as error:
        raise AuditError(f"{path} is not JSON: {error}; save the run anew") from error
    if without := [each.name for each in found.benchmarks if not each.stats.data]:
        raise AuditError(f"{path} has no raw times of {without[0]}; save them with --benchmark-save-data")
    return tuple(
        Series(each.group or "", each.name, each.stats.data, each.extra_info.get("interleaved") is True)
        for each in found.benchmarks
    )


def speedups(series: Iterable[Series], baseline: str) -> tuple[Speedup, ...]:
    """Every other arm against the baseline of its group; raises AuditError where no group has such a baseline."""
    groups: dict[str, dict[str, Series]] = {}
    for each in series:
        groups.setdefault(each.group, {})[each.name] = each
    if not any(baseline in group for group in groups.values()):
        names = sorted({name for group in groups.values() for name in group})
        raise AuditError(f"no group has the baseline {baseline!r}; its arms are {', '.join(names)}")
    return tuple(
        _speedup(group[baseline], each, group.get(baseline + AGAIN))
        for group in groups.values()
        if baseline in group
        for name, each in group.items()
        if name not in (baseline, baseline + AGAIN)
    )


def _speedup(base: Series, arm: Series, again: Series | None) -> Speedup:
    paired = base.interleaved and arm.interleaved
    control = again and ratio_interval(base.seconds, again.seconds, CONTROL_CONFIDENCE, paired=base.interleaved)
    return Speedup(
        group=arm.group,
        baseline=base.name,
        name=arm.name,
        ratio=ratio_interval(base.seconds, arm.seconds, paired=paired),
        interleaved=paired,
        sound=control.straddles(1.0) if control else None,
    )


def speedup_lines(found: Iterable[Speedup]) -> Iterable[str]:
    """One line for each speed-up, with what limits its worth."""
    for each in found:
        doubts = [] if each.interleaved else ["not interleaved: drift counts as a difference"]
        doubts += ["the baseline differs from itself: no difference can be told"] if each.sound is False else []
        group = f"{each.group}: " if each.group else ""
        told = f"{group}{each.name}: {each.ratio} times as fast as {each.baseline}"
        yield "; ".join([told, *doubts])
