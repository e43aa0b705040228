"""The sensitivity matrix: which check turns RED on which mutant, what survives, who is idle, who accuses wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from harness.evidence import Record
from harness.mutants.audition import Audition, Cell
from harness.mutants.mutant import Mutant

Fate = Literal["killed", "survived", "crashed", "equal"]
"""`crashed`: its criterion turned RED only because the mutant broke down, which was not its defect. `equal`: it was not
seen to differ from the clean subject."""
_CAUGHT: tuple[Cell, ...] = ("assertion", "figure")


class Trial(Record):
    """One mutant: what became of it, the checks that turned RED and how, and how it differs from the clean subject."""

    id: str
    title: str
    area: str
    suite: str
    criterion: str
    fate: Fate
    red: dict[str, Cell]
    unexpected: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    witness: str | None
    seconds: float


class FalseAlarm(Record):
    """A check that turned RED on a clean subject."""

    suite: str
    area: str
    check: str
    seed: int
    message: str


class Matrix(Record):
    """The outcome of a run over mutants; `complete` when they were all there are.

    `checks` are all checks of all suites, named `file::function`. A check is idle when it has killed no mutant, which
    only a complete run can say. `set_aside` has the checks whose mutants cannot be had here, and why: they are not
    idle, and have not been seen to fail either.
    """

    complete: bool
    seeds: int
    available: int
    trials: tuple[Trial, ...]
    checks: tuple[str, ...]
    set_aside: dict[str, str] = Field(default_factory=dict)
    false_alarms: tuple[FalseAlarm, ...]
    seconds: float

    @property
    def killed(self) -> int:
        """How many mutants were killed."""
        return sum(trial.fate == "killed" for trial in self.trials)

    @property
    def survivors(self) -> tuple[Trial, ...]:
        """The mutants that were not killed, whatever the reason."""
        return tuple(trial for trial in self.trials if trial.fate != "killed")

    @property
    def idle_checks(self) -> tuple[str, ...]:
        """The checks that killed no mutant, but for those set aside; none in a run that is not complete."""
        working = {check for trial in self.trials for check, cell in trial.red.items() if counts(trial, cell)}
        idle = (check for check in self.checks if check not in working and check not in self.set_aside)
        return tuple(idle) if self.complete else ()

    @property
    def sound(self) -> bool:
        """Whether there are no survivors, no idle checks and no false alarms, among at least one mutant."""
        return bool(self.trials) and not (self.survivors or self.idle_checks or self.false_alarms)


def counts(trial: Trial, cell: Cell) -> bool:
    """Whether a RED cell says that the check works; a crash does where the defect is one, and the mutant was killed."""
    return cell in _CAUGHT or (trial.fate == "killed" and all(each == "crash" for each in trial.red.values()))


def tried(mutant: Mutant, done: Audition, witness: str | None) -> Trial:
    """What became of a mutant."""
    red = done.red()
    caught = {
        verdict.cell for verdict in done.verdicts if verdict.cell is not None and mutant.criterion in verdict.criteria
    }
    expected = {f"{mutant.stage.suite}::{check}" for check in mutant.checks}
    return Trial(
        id=mutant.id,
        title=mutant.title,
        area=mutant.area,
        suite=mutant.stage.suite,
        criterion=mutant.criterion,
        fate=_fate(mutant, caught, witness),
        red=red,
        unexpected=tuple(sorted(red.keys() - expected)),
        missed=tuple(sorted(expected - red.keys())),
        witness=witness,
        seconds=done.seconds,
    )


def _fate(mutant: Mutant, caught: set[Cell], witness: str | None) -> Fate:
    if witness is None:
        return "equal"
    if caught & set(_CAUGHT) or (mutant.crashes and "crash" in caught):
        return "killed"
    return "crashed" if "crash" in caught else "survived"


def summary(matrix: Matrix) -> str:
    """The figures in one sentence."""
    total = len(matrix.trials)
    which = f"{total} mutants" if matrix.complete else f"a sample of {total} of {matrix.available} mutants"
    idle = f"{len(matrix.idle_checks)} of {len(matrix.checks)} checks idle" if matrix.complete else "idle not counted"
    alarms = f"{len(matrix.false_alarms)} false alarms over {matrix.seeds} seeds"
    aside = f" ({len(matrix.set_aside)} set aside)" if matrix.set_aside else ""
    return f"{which}: {matrix.killed} killed, {len(matrix.survivors)} survived; {idle}{aside}; {alarms}"


def as_json(matrix: Matrix) -> dict[str, object]:
    """The matrix as plain data, its counts first."""
    return {
        "mutants": len(matrix.trials),
        "killed": matrix.killed,
        "survivors": [trial.id for trial in matrix.survivors],
        "idle_checks": list(matrix.idle_checks),
        "set_aside": dict(matrix.set_aside),
        "false_alarms": [alarm.model_dump(mode="json") for alarm in matrix.false_alarms],
        "seeds": matrix.seeds,
        "complete": matrix.complete,
        "available": matrix.available,
        "seconds": matrix.seconds,
        "checks": list(matrix.checks),
        "matrix": {trial.id: dict(trial.red) for trial in matrix.trials},
        "trials": [trial.model_dump(mode="json") for trial in matrix.trials],
    }


def from_json(data: dict[str, object]) -> Matrix:
    """The matrix again."""
    names = ("complete", "seeds", "available", "trials", "checks", "set_aside", "false_alarms", "seconds")
    return Matrix.model_validate({name: data[name] for name in names})


def by_check(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """The ids of the mutants that each check kills."""
    found: dict[str, list[str]] = {}
    for trial in trials:
        for check, cell in trial.red.items():
            if counts(trial, cell):
                found.setdefault(check, []).append(trial.id)
    return found
