"""Faults: a compression is killed, signalled, starved and damaged, and started again; nothing may be lost by it.

The faults are real: a library between the command line and the system kills the process between the bytes of a write,
fills the disk, takes memory away (see `harness.faults`). Which calls of a run are hit is drawn by the run's seed from
those that an undisturbed run makes. `suites.fault_scenes` says when a fault is survived.
"""

from __future__ import annotations

import errno
import itertools
import random
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from harness.evidence import Evidence, Profile
from harness.faults.shim import Fault, Kind, NoShim
from harness.faults.stand import Ended, Started, open_stand
from harness.subject import EnduresFaults, HandsOver, RunsCommand, Subject, require
from suites.fault_scenes import (
    Scene,
    Scenes,
    accepted,
    artefacts,
    command_words,
    on_files,
    one_sentence,
    struck,
    write_inputs,
)

LITTLE_MEMORY: Final = 1 << 20
HOUR: Final = 3600
AFTER_LINE: Final = 1
NOWHERE: Final = "http://127.0.0.1:9"
"""An address where nothing answers."""
COUNTS: Final[Mapping[str, Mapping[Profile, int]]] = {
    "boundaries": {"quick": 1, "full": 1_000},
    "writes": {"quick": 2, "full": 100},
    "chains": {"quick": 1, "full": 3},
    "failures": {"quick": 1, "full": 4},
    "signals": {"quick": 1, "full": 8},
    "limits of memory": {"quick": 1, "full": 8},
    "pairs": {"quick": 1, "full": 6},
    "clocks": {"quick": 1, "full": 4},
    "damage of a file": {"quick": 1, "full": 6},
    "damage of the state": {"quick": 1, "full": 16},
    "damage of the input": {"quick": 1, "full": 16},
}
OTHER_SETTINGS: Final = ({"calibration_samples": "3"}, {"seed": "1"})
CHAIN: Final = 4
"""Kills, one after another, before a run is left to end."""

killed = pytest.mark.criterion("A.faults-killed")
refused = pytest.mark.criterion("A.faults-writes")
asked = pytest.mark.criterion("A.faults-signals")
starved = pytest.mark.criterion("A.faults-memory")
damaged = pytest.mark.criterion("A.faults-damage")
beset = pytest.mark.criterion("A.faults-surroundings")


@pytest.fixture(scope="module")
def scenes(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The stand on which the subject's command line is disturbed, and what it does undisturbed."""
    command = require(subject, RunsCommand).command
    settings = require(subject, EnduresFaults).enduring_settings
    check = require(subject, HandsOver).check_phase5
    under, scratch = tmp_path_factory.mktemp("scenes"), tmp_path_factory.mktemp("faults")
    write_inputs(under)
    shutil.copytree(under / "given", scratch / "given")
    first = command_words("given/model", Path("out"), settings)
    try:
        with open_stand(command, first, under, scratch) as stand:
            yield Scenes(stand, under, settings, check)
    except NoShim as absent:
        pytest.skip(str(absent))


@pytest.fixture
def dice(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """Draws for one check, by the run's seed."""
    return random.Random(f"{seed} {request.node.name}")


class Tally:
    """What became of the faults of a check."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.lost: list[str] = []
        self.tried = 0

    def add(self, name: object, complaints: Sequence[str]) -> None:
        """Count a fault; it is lost if there is anything to complain of."""
        self.tried += 1
        if complaints:
            self.lost.append(f"{name}: {'; '.join(complaints)}")

    def settle(self) -> None:
        """Record the figures; none may be lost."""
        self.evidence.figure("faults_tried", self.tried)
        self.evidence.figure("faults_survived", self.tried - len(self.lost))
        self.evidence.figure("faults_lost", len(self.lost))
        for each in self.lost:
            self.evidence.note(each)
        assert self.tried, "no fault was tried"
        assert not self.lost, f"{len(self.lost)} of {self.tried} faults were lost, the first one: {self.lost[0]}"


@pytest.fixture
def tally(evidence: Evidence) -> Tally:
    """Counts the faults of a check."""
    return Tally(evidence)


def some(dice: random.Random, population: Sequence[int], kind: str, profile: Profile) -> list[int]:
    """So many of them as the profile asks for, one from each of as many equal stretches; all where that is more."""
    count = min(COUNTS[kind][profile], len(population))
    ends = [len(population) * part // count for part in range(count + 1)] if count else []
    return [dice.choice(population[first:last]) for first, last in itertools.pairwise(ends)]


# --------------------------------------------------------------------------- kill -9


@killed
def test_a_kill_between_stages_is_survived(scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally) -> None:
    """Right after a line of progress, which is when a stage begins."""
    for call in some(dice, scenes.undisturbed.lines, "boundaries", profile):
        kill(scenes, Fault("kill", call, AFTER_LINE), tally)
    tally.settle()


@killed
def test_a_kill_within_a_write_is_survived(scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally) -> None:
    """After half of the bytes, before a file is synced or renamed, and so on: 100 of all such calls."""
    for call in some(dice, scenes.undisturbed.calls, "writes", profile):
        kill(scenes, Fault("kill", call), tally)
    tally.settle()


@killed
@pytest.mark.profile("full")
def test_kills_one_after_another_are_survived(
    scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally
) -> None:
    calls = scenes.undisturbed.calls
    for _ in range(COUNTS["chains"][profile]):
        scene, complaints = Scene(scenes), list[str]()
        for call in dice.sample(calls, CHAIN):
            scene.run(Fault("kill", call))
            complaints += scene.half_written()
        tally.add(f"{CHAIN} kills", complaints + scene.again())
    tally.settle()


def kill(scenes: Scenes, fault: Fault, tally: Tally) -> None:
    scene, ended = struck(scenes, fault)
    assert ended.code == -signal.SIGKILL, f"{fault}: the run has ended with {ended.code}: {ended.stderr}"
    tally.add(fault, scene.half_written() + scene.again(ended))


@killed
@pytest.mark.profile("full")
def test_the_state_of_another_run_is_not_taken(scenes: Scenes, dice: random.Random, tally: Tally) -> None:
    """A run with another seed, or on fewer samples, is killed when it has done nearly everything."""
    for settings in OTHER_SETTINGS:
        calls = len(scenes.undisturbed.calls)
        scene, _ = struck(scenes, Fault("kill", dice.randrange(calls // 2, calls * 3 // 4)), settings)
        tally.add(settings, scene.half_written() + scene.again())
    tally.settle()


# --------------------------------------------------------------------------- writes that fail


OWN_OUTPUT: Final = 2_000
"""What is printed goes to a file as well, which must not be cut."""
LARGEST_FILE: Final = 1 << 20
"""Copies are asked for by more bytes than there are."""
FAILURES: Final[Mapping[str, tuple[Kind, int]]] = {
    "full-disk": ("full disk", 0),
    "read-only": ("read-only", 0),
    "input-output-error": ("error", errno.EIO),
    "file-size": ("file size", 0),
}


@refused
@pytest.mark.parametrize(
    "failure",
    [name if name == "full-disk" else pytest.param(name, marks=pytest.mark.profile("full")) for name in FAILURES],
)
def test_a_write_that_fails_is_told_and_survived(
    scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally, failure: str
) -> None:
    """One sentence and exit code 2, and once there is room the same command goes on."""
    for fault in failures(scenes, dice, profile, failure):
        scene, ended = struck(scenes, fault)
        tally.add(fault, refusal(scenes, scene, ended, 2) + scene.half_written() + scene.again())
    tally.settle()


def failures(scenes: Scenes, dice: random.Random, profile: Profile, failure: str) -> list[Fault]:
    """At drawn calls that write, make or rename a file; a limit holds from the start, below some file's size."""
    kind, value = FAILURES[failure]
    points = on_files(scenes.undisturbed.ended)
    hit = [number for number in scenes.undisturbed.calls if points[number - 1].what in "wcmr"]
    if kind != "file size":
        return [Fault(kind, call, value) for call in some(dice, hit, "failures", profile)]
    sizes = [points[number - 1].bytes for number in hit if OWN_OUTPUT < points[number - 1].bytes < LARGEST_FILE]
    return [Fault(kind, 0, size - 1) for size in some(dice, sorted(set(sizes)), "failures", profile)]


def refusal(scenes: Scenes, scene: Scene, ended: Ended, code: int) -> list[str]:
    """What is wrong with how a run ended that could not, or not be expected to, do its work; if it did, nothing is."""
    if ended.code == scenes.undisturbed.ended.code and artefacts(scene.out) == scenes.undisturbed.artefacts:
        return []
    wrong = [] if ended.code == code else [f"it ends with exit code {ended.code}"]
    return wrong + one_sentence(ended, scenes.undisturbed.ended.stderr)


# --------------------------------------------------------------------------- signals, memory


@asked
@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", 143), pytest.param("SIGINT", 130, marks=pytest.mark.profile("full"))]
)
def test_a_run_that_is_asked_to_end_says_how_it_goes_on(
    scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally, name: str, code: int
) -> None:
    """With the exit code that a shell expects, and in one sentence that the same command continues."""
    for call in some(dice, scenes.undisturbed.calls, "signals", profile):
        fault = Fault("signal", call, int(signal.Signals[name]))
        scene, ended = struck(scenes, fault)
        complaints = refusal(scenes, scene, ended, code)
        if not complaints and ended.code == code and not re.search("same command", ended.stderr):
            complaints = ["it does not say that the same command goes on"]
        tally.add(fault, complaints + scene.half_written() + scene.again(ended))
    tally.settle()


@starved
def test_a_run_without_memory_tells_so(scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally) -> None:
    """One sentence and exit code 2, or the work done with what there is."""
    early = scenes.undisturbed.calls[: len(scenes.undisturbed.calls) // 2]  # later on a run takes no more
    for call in some(dice, early, "limits of memory", profile):
        fault = Fault("memory", call, dice.randrange(LITTLE_MEMORY))
        scene, ended = struck(scenes, fault)
        tally.add(fault, refusal(scenes, scene, ended, 2) + scene.half_written() + scene.again())
    tally.settle()


# --------------------------------------------------------------------------- damage


def has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def spoil(path: Path, how: str, dice: random.Random) -> None:
    """Flip a bit of a file, or leave out its end."""
    content = bytearray(path.read_bytes())
    if how == "bit":
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content[: dice.randrange(len(content))] if how == "end" else content)


@damaged
@pytest.mark.parametrize("how", ["bit", "end"])
def test_damage_of_an_output_is_noticed(
    scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally, how: str
) -> None:
    """In every file of both artefacts, and in what lies beside them."""
    scene = Scene(scenes)
    assert scene.again() == []
    for path in sorted(path for path in scene.out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for _ in range(COUNTS["damage of a file"][profile] if content else 0):
            spoil(path, how, dice)
            passes = accepted(scenes.check, scene.out)
            tally.add(f"{how} of {path.relative_to(scene.out)}", ["it is valid all the same"] if passes else [])
            path.write_bytes(content)
    tally.settle()


@damaged
def test_damage_of_the_state_changes_nothing(
    scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally
) -> None:
    """What a killed run has left is damaged: the next one says so, or does that piece of work anew."""
    begun, _ = struck(scenes, Fault("kill", scenes.undisturbed.lines[-1], AFTER_LINE))
    kept = sorted(path.relative_to(begun.folder) for path in begun.folder.rglob("*") if has_bytes(path))
    assert kept, "a run that is killed leaves nothing from which it could go on"
    for number in range(COUNTS["damage of the state"][profile]):
        scene, how = Scene(scenes), ("bit", "end")[number % 2]
        shutil.copytree(begun.folder, scene.folder, dirs_exist_ok=True)
        name = kept[number // 2 % len(kept)] if profile == "full" else dice.choice(kept)
        spoil(scene.folder / name, how, dice)
        complaints = refusal(scenes, scene, scene.run(), 2) + scene.half_written()
        tally.add(f"{how} of {name.name}", complaints)
    tally.settle()


@damaged
def test_damage_of_an_input_is_told(scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally) -> None:
    """In one sentence; where nothing can be noticed the run ends with an output that is valid."""
    given = sorted((scenes.under / "given" / "model").iterdir())
    for number in range(COUNTS["damage of the input"][profile]):
        scene, how = Scene(scenes), ("end", "bit")[number % 2]
        model = Path(shutil.copytree(scenes.under / "given" / "model", scene.folder / "model"))
        name = given[number // 2 % len(given)].name if profile == "full" else dice.choice(given).name
        spoil(model / name, how, dice)
        ended = scenes.stand.run(scenes.words(scene.out, {}, str(model)))
        complaints = [] if ended.code in (0, 1, 2) else [f"it ends with exit code {ended.code}"]
        if ended.code == 2:
            complaints += one_sentence(ended, scenes.undisturbed.ended.stderr)
        elif not accepted(scenes.check, scene.out):
            complaints.append("it leaves nothing that is valid")
        tally.add(f"{how} of {name}", complaints)
    tally.settle()


# --------------------------------------------------------------------------- other runs, clocks, services


@beset
def test_two_runs_on_one_output_do_not_mix(scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally) -> None:
    """The second begins while the first is stopped; one of them writes the output, and the other may refuse to."""
    for call in some(dice, scenes.undisturbed.calls, "pairs", profile):
        scene, first = stopped(scenes, call)
        second = scene.run()
        complaints = scene.half_written()
        first.go_on()
        runs = (first.end(), second)
        complaints += [each for run in runs for each in refusal(scenes, scene, run, 2)]
        if not any(run.code == scenes.undisturbed.ended.code for run in runs):
            complaints.append("neither has done its work")
        tally.add(f"stopped at call {call}", complaints + scene.half_written() + scene.again())
    tally.settle()


def stopped(scenes: Scenes, call: int) -> tuple[Scene, Started]:
    """A scene with a run that stands still at a call, or at an earlier one where it makes fewer."""
    scene = Scene(scenes)
    started = scenes.stand.begin(scenes.words(scene.out, {}), Fault("stop", call))
    return (scene, started) if started.stopped() else stopped(scenes, call // 2)


@beset
@pytest.mark.profile("full")
def test_a_clock_that_jumps_changes_nothing(
    scenes: Scenes, dice: random.Random, profile: Profile, tally: Tally
) -> None:
    """It is put back by hours and on again all the time, and a run that was killed goes on with an earlier date."""
    for call in some(dice, scenes.undisturbed.calls, "clocks", profile):
        scene, _ = struck(scenes, Fault("kill", call))
        ended = scene.run(Fault("clock", 1, dice.randrange(1, 10_000) * HOUR))
        finished = artefacts(scene.out) == scenes.undisturbed.artefacts
        tally.add(f"killed at call {call}", [] if finished else [f"it ends with {ended.code}: {ended.stderr[-200:]}"])
    tally.settle()


@beset
@pytest.mark.profile("full")
def test_a_service_that_does_not_answer_stops_nothing(subject: Subject, scenes: Scenes, tally: Tally) -> None:
    """The tracker of runs, and the registry of models."""
    for name, calling in require(subject, EnduresFaults).callings(NOWHERE).items():
        scene = Scene(scenes)
        ended = scene.run(settings=calling.settings, environment=calling.environment)
        complaints = [] if ended.code == scenes.undisturbed.ended.code else [f"it ends with {ended.code}"]
        if artefacts(scene.out) != scenes.undisturbed.artefacts:
            complaints.append("it writes other bytes")
        tally.add(name, complaints)
    tally.settle()
