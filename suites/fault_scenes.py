"""Scenes of a fault suite: one compression, run in a folder of its own, disturbed, and started again.

A fault is survived if nothing half-written passes for an output, and if the same command, started again, ends as an
undisturbed run does: the same exit code, the same bytes in both artefacts, nothing beside them, and no finished piece
of work done twice.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PreTrainedModel

from harness.faults.shim import NONE, Fault, NoShim, Point
from harness.faults.stand import Ended, Stand
from harness.texts import PROSE, held_out_excerpt
from suites.command_runs import files
from suites.small_models import byte_tokenizer, save_random_llama

POSITIONS: Final = 64
TRAINING_STEPS: Final = 20
FORMS: Final = ("packed", "fp16")
CALIBRATION_CHARACTERS: Final = 3_000
SETTINGS: Final[Mapping[str, str]] = {
    "calibration_text": "given/calibration.txt",
    "evaluation_text": "given/text.txt",
    "calibration_samples": "4",
    "fine_tune_steps": "4",
    "fine_tune_trigger": "0",
}
REFUSED: Final = 2
"""The exit code of a command whose output stands there already, from a run that had only to tidy up."""
OFTEN: Final = 3
"""What an undisturbed run renames so many times tells of progress; what it renames less often is work."""


def command_words(model: str, out: Path, settings: Mapping[str, str]) -> list[str]:
    """What the command is given, in the folder of `write_inputs`; settings go before the suite's own."""
    chosen = {**SETTINGS, **settings}
    return ["compress", model, "--out", str(out), *(f"--set={name}={value}" for name, value in chosen.items())]


def write_inputs(under: Path) -> None:
    """A model of a few thousand parameters and two texts, in the folder `given`."""
    save_random_llama(under / "given" / "model", layers=1, width=16, change=train)
    (under / "given" / "calibration.txt").write_bytes(held_out_excerpt(CALIBRATION_CHARACTERS).encode())
    (under / "given" / "text.txt").write_bytes(PROSE.encode())


def train(model: PreTrainedModel) -> None:
    """Let it learn something, so that compression does harm, and recovery is called for."""
    model.config.max_position_embeddings = POSITIONS
    tokens = torch.tensor(byte_tokenizer().encode(held_out_excerpt(CALIBRATION_CHARACTERS)))[: 8 * POSITIONS]
    optimizer = torch.optim.Adam(model.model.layers.parameters(), lr=1e-2)
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        batch = tokens.reshape(-1, POSITIONS)
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()


@dataclass(frozen=True)
class Undisturbed:
    """What a run without faults does and leaves: its end, and the digests of its artefacts' files."""

    ended: Ended
    artefacts: Mapping[str, str]

    @property
    def work(self) -> Mapping[str, int]:
        """How often it renames each file or folder into place that is finished work."""
        counted = renamed(self.ended.points)
        return {path: times for path, times in counted.items() if times < OFTEN}

    @property
    def lines(self) -> list[int]:
        """The numbers of the lines of progress: after each a stage begins."""
        return list(range(1, sum(point.what == "t" for point in self.ended.points) + 1))

    @property
    def calls(self) -> list[int]:
        """The numbers of the calls that write, sync, rename and so forth."""
        return list(range(1, len(on_files(self.ended)) + 1))


@dataclass
class Scenes:
    """Makes scenes. `check` raises on a folder that is no complete output (see `HandsOver.check_phase5`)."""

    stand: Stand
    under: Path
    settings: Mapping[str, str]
    check: Callable[[Path], Any]
    undisturbed: Undisturbed = field(init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        scene = Scene(self)
        ended = scene.run()
        assert ended.code in (0, 1), f"without a fault it ended with {ended.code}: {ended.stderr[-300:]}"
        if not on_files(ended):
            raise NoShim("faults cannot be made: the command's calls are not seen")
        assert accepted(self.check, scene.out), "without a fault it leaves nothing that is valid"
        self.undisturbed = Undisturbed(ended, artefacts(scene.out))

    def words(self, out: Path, settings: Mapping[str, str], model: str = "given/model") -> list[str]:
        """The command."""
        return command_words(model, out, {**self.settings, **settings})

    def number(self) -> int:
        """One that no scene has yet."""
        return next(self._numbers)


class Scene:
    """A folder with room for one output, `out`, and the runs that are to fill it."""

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        self.folder = scenes.under / f"scene-{scenes.number()}"
        self.folder.mkdir()
        self.out = self.folder / "out"

    def run(
        self,
        fault: Fault = NONE,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run the command, with further settings and variables, and with a fault."""
        ended = self.scenes.stand.run(self.scenes.words(self.out, settings or {}), fault, environment)
        assert not ended.hung, f"{fault}: the run did not end"
        return ended

    def half_written(self) -> list[str]:
        """What is wrong with that which a disturbed run has left: folders that pass for an output and are none."""
        expected = self.scenes.undisturbed.artefacts
        return [
            f"{folder.name} is valid, but is not what an undisturbed run writes"
            for folder in sorted(self.folder.iterdir())
            if folder.is_dir() and artefacts(folder) != expected and accepted(self.scenes.check, folder)
        ]

    def again(self, disturbed: Ended | None = None) -> list[str]:
        """What goes wrong when the same command is started again; the work of the run `disturbed` must not be lost."""
        undisturbed, kept = self.scenes.undisturbed, files(self.folder)
        complete = artefacts(self.out) == undisturbed.artefacts and accepted(self.scenes.check, self.out)
        if complete and list(self.folder.iterdir()) == [self.out]:
            return []  # the fault came too late to do any harm
        ended = self.run()
        faults = []
        if ended.code != undisturbed.ended.code and not (complete and ended.code == REFUSED):
            faults.append(f"started again it ends with {ended.code}: {ended.stderr.strip()[-200:]}")
        elif artefacts(self.out) != undisturbed.artefacts:
            faults.append("started again it writes other bytes")
        elif not accepted(self.scenes.check, self.out):
            faults.append("started again it leaves nothing that is valid")
        elif left := [path.name for path in self.folder.iterdir() if path != self.out]:
            faults.append(f"it leaves {', '.join(sorted(left))} behind")
        if disturbed is not None:
            faults += self._done_twice(disturbed, ended, kept)
        return faults

    def _done_twice(self, first: Ended, second: Ended, kept: Mapping[str, str]) -> list[str]:
        done, again = renamed(first.points), renamed(second.points)
        return [
            f"{Path(path).name} was done again"
            for path, times in self.scenes.undisturbed.work.items()
            if path in kept and done[path] == times and again[path] > times - 1
        ]


def on_files(ended: Ended) -> list[Point]:
    """A run's calls, but for lines on standard error."""
    return [point for point in ended.points if point.what != "t"]


def struck(scenes: Scenes, fault: Fault, settings: Mapping[str, str] | None = None) -> tuple[Scene, Ended]:
    """A scene with a run that the fault has hit: one that tells of its progress less often makes fewer calls."""
    while True:
        scene = Scene(scenes)
        ended = scene.run(fault, settings)
        made = ended.points if fault.kind == "kill" and fault.value else on_files(ended)
        if fault.at <= len(made):
            return scene, ended
        fault = replace(fault, at=fault.at // 2)


def renamed(points: Sequence[Point]) -> Counter[str]:
    """How often each path was renamed to, relative to the scene's folder."""
    return Counter(re.sub(r"^.*?/scene-\d+/", "", point.path) for point in points if point.what == "r")


def accepted(check: Callable[[Path], Any], folder: Path) -> bool:
    """Whether a folder passes for a complete output."""
    try:
        check(folder)
    except ValueError:
        return False
    return True


def artefacts(out: Path) -> dict[str, str]:
    """The digests of the files of both artefacts."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for form in FORMS
        for path in sorted((out / form).rglob("*"))
        if path.is_file()
    }


def one_sentence(ended: Ended, usual: str) -> list[str]:
    """What is wrong with how a run tells why it ended early; lines of `usual` are progress, numbers aside."""
    progress = {without_numbers(line) for line in usual.splitlines()}
    told = [line for line in ended.stderr.splitlines() if line.strip() and without_numbers(line) not in progress]
    faults = []
    if "Traceback" in ended.stderr:
        faults.append(f"it ends with a traceback: {told[-1]}")
    elif len(told) != 1 or not told[0].rstrip().endswith("."):
        faults.append(f"it does not tell in one sentence why it ends: {told}")
    if ended.stdout.strip():
        faults.append("it prints results all the same")
    return faults


def without_numbers(line: str) -> str:
    """A line of progress as it is in every run, whatever the time."""
    return re.sub(r"[\d.]+", "0", " ".join(line.split()))
