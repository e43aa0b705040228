"""Where the dashboard looks."""

from dataclasses import dataclass
from pathlib import Path

from bitnet.checkpoint import work_folder
from bitnet.dashboard.jobs import job_folder

#: The record of a run, as in `bitnet.result.RESULT`, whose module imports torch.
RESULT = "result.json"


@dataclass(frozen=True)
class Places:
    """A folder of reports, and output folders or folders that hold them; no `runs`: the current folder."""

    reports: Path
    runs: tuple[Path, ...] = ()

    @property
    def base(self) -> Path:
        """Where new runs are put."""
        first = (self.runs or (Path(),))[0].resolve()
        return first.parent if _is_run(first) else first

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The output folders, present or to come: those that were given first, then by name."""
        found: dict[Path, None] = {}
        for place in (*(run.resolve() for run in self.runs), self.base):
            if _is_run(place):
                found.setdefault(place)
            elif place.is_dir():
                found.update(dict.fromkeys(sorted(_held(place))))
        return tuple(found)


def _is_run(folder: Path) -> bool:
    return (folder / RESULT).is_file() or work_folder(folder).is_dir() or job_folder(folder).is_dir()


def _held(folder: Path) -> set[Path]:
    """The output folders that lie in `folder` or will: hidden ones beside them tell of those."""
    found = set()
    for child in folder.iterdir():
        if child.name.startswith(".") and child.suffix in (".work", ".job") and child.is_dir():
            found.add(folder / child.name[1 : -len(child.suffix)])
        elif (child / RESULT).is_file():
            found.add(child)
    return found
