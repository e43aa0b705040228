"""One interleaved run of a subject and its opponents, each with its own amount of work, and the ratios that follow.

`harness.statistics` times the arms; a race knows how much work each of them does in a run, so that rates can be told
and arms of different work compared: a limit of the machine is an arm like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from harness.errors import AuditError
from harness.statistics import CONTROL_CONFIDENCE, Arm, Interval, interleave, ratio_interval

AGAIN = " (again)"


@dataclass(frozen=True)
class Entry:
    """An arm with the work of one of its runs, in the unit of the race."""

    arm: Arm
    work: float


@dataclass(frozen=True)
class Race:
    """The subject against opponents; `absent` says which ones could not take part and why."""

    title: str
    unit: str
    subject: Entry
    opponents: tuple[Entry, ...]
    absent: tuple[str, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The subject first."""
        return (self.subject, *self.opponents)

    @property
    def settings(self) -> tuple[str, ...]:
        """What each arm ran with, in words."""
        return tuple(
            f"{entry.arm.name}: " + ", ".join(f"{key} {value}" for key, value in entry.arm.settings.items())
            for entry in self.entries
        )


@dataclass(frozen=True)
class Finish:
    """A race that was run; `seconds` are the raw times by arm, in the order of the rounds."""

    race: Race
    seconds: Mapping[str, list[float]]

    @property
    def control(self) -> Interval:
        """The A/A control: the subject over itself, which should straddle 1."""
        name = self.race.subject.arm.name
        return ratio_interval(self.seconds[name], self.seconds[name + AGAIN])

    @property
    def sound(self) -> bool:
        """Whether the subject came out equal to itself, by an interval that misses once in a thousand runs."""
        name = self.race.subject.arm.name
        control = ratio_interval(self.seconds[name], self.seconds[name + AGAIN], CONTROL_CONFIDENCE)
        return control.straddles(1.0)

    def took_part(self, name: str) -> bool:
        """Whether an arm of that name was timed."""
        return any(entry.arm.name == name for entry in self.race.entries)

    def rate(self, name: str) -> float:
        """Work a second of an arm, by its median time; raises AuditError for an arm that did not take part."""
        return self._entry(name).work / median(self.seconds[name])

    def speedup(self, name: str) -> Interval:
        """Rate of the subject over that of another arm, with its 95 % interval; raises as `rate`."""
        subject, other = self.race.subject, self._entry(name)
        times = ratio_interval(self.seconds[name], self.seconds[subject.arm.name])
        share = subject.work / other.work
        return Interval(times.value * share, times.low * share, times.high * share, times.confidence)

    def fastest(self, names: Sequence[str]) -> str | None:
        """Of the arms named, the one with the highest rate; None where none of them took part."""
        return max(filter(self.took_part, names), key=self.rate, default=None)

    def _entry(self, name: str) -> Entry:
        for entry in self.race.entries:
            if entry.arm.name == name:
                return entry
        raise AuditError(f"{name!r} did not take part in {self.race.title!r}; its arms are {', '.join(self.seconds)}")


def run(race: Race, rounds: int, seed: int = 0) -> Finish:
    """Run a race, the subject twice in each round."""
    subject = race.subject.arm
    again = replace(subject, name=subject.name + AGAIN)
    arms = [subject, again, *(entry.arm for entry in race.opponents)]
    return Finish(race, interleave(arms, rounds, seed=seed))
