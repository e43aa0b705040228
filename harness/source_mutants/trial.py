"""One change, shown to the tests of its file in a child of this process, with what the tests import at hand.

The child serves the changed source in place of the file: nothing is written over, and what has been imported into the
parent (torch alone takes seconds) is not imported again. The file itself must not have been imported there.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import coverage
import pytest

from harness.errors import AuditError
from harness.evidence import Record

Fate = Literal["killed", "timeout", "survived"]
"""`killed`: a test failed, or the file could not be imported; `timeout`: it took too long, which is noticed as well."""

ROOT = Path(__file__).parents[2]
OWN = ("bitnet", "harness", "suites", "tests")
_UNWANTED = ("cacheprovider", "xdist", "cov", "benchmark", "randomly")


class Seen(Record):
    """What one run said: pytest's exit code, and the first test that failed."""

    exit_code: int
    killer: str = ""


class Rehearsal(Record):
    """What the tests do with the file as it is: seconds and lines of each test, and the modules that they import.

    `imported` are the lines that run before any test, when the file is imported.
    """

    seconds: dict[str, float]
    lines: dict[str, tuple[int, ...]]
    imported: tuple[int, ...]
    modules: tuple[str, ...]

    def reaches(self, start: int, end: int) -> bool:
        """Whether any of these lines runs at all."""
        ran = {line for lines in (self.imported, *self.lines.values()) for line in lines}
        return any(start <= line <= end for line in ran)

    def first(self, start: int, end: int) -> tuple[str, ...]:
        """The tests in the order in which they are worth running: those that reach these lines, the quickest first."""
        reach = {test for test, lines in self.lines.items() if any(start <= line <= end for line in lines)}
        return tuple(sorted(self.seconds, key=lambda test: (test not in reach, self.seconds[test])))

    @property
    def limit(self) -> int:
        """Seconds of processor time that a changed file may take before it counts as noticed."""
        return 20 + round(5 * sum(self.seconds.values()))


def rehearse(file: str, tests: Sequence[str], folder: Path) -> Rehearsal:
    """Run the tests of a file on the file as it is.

    Raises:
        AuditError: a test fails on the file as it is, so that no change to it can be judged.
    """
    child = start(lambda: _rehearse(file, tests, folder), seconds=3600)
    child.join()
    result = folder / "rehearsal.json"
    if child.exitcode != 0 or not result.is_file():
        raise AuditError(f"the tests of {file} do not pass on the file as it is; run {' '.join(tests)} and repair them")
    return Rehearsal.model_validate_json(result.read_text(encoding="utf-8"))


def preload(modules: Sequence[str]) -> None:
    """Import into this process what the tests import, but for our own packages."""
    for name in modules:
        if name.partition(".")[0] not in OWN and name not in sys.modules:
            # Some can only be imported by others, or have another name in a file; the child does that by itself.
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def show(file: str, source: str, tests: Sequence[str], order: Sequence[str], result: Path, seconds: int) -> BaseProcess:
    """Start a child that shows a changed source to the tests, and writes what they said of it."""
    return start(lambda: _show(file, source, tests, order, result), seconds)


def fate_of(exit_code: int | None, result: Path) -> tuple[Fate, str]:
    """What became of a change, from how its child ended and what it wrote; and the test that noticed it.

    Raises:
        AuditError: the child could not show the change.
    """
    if exit_code in (-signal.SIGXCPU, -signal.SIGALRM):
        return "timeout", ""
    if exit_code is not None and exit_code < 0:
        return "killed", ""  # it took its process along
    if exit_code != 0 or not result.is_file():
        raise AuditError(f"a change could not be shown to the tests (exit code {exit_code}); see the traceback above")
    seen = Seen.model_validate_json(result.read_text(encoding="utf-8"))
    return ("survived" if seen.exit_code == 0 else "killed"), seen.killer


def start(work: Callable[[], None], seconds: int) -> BaseProcess:
    """Start work in a child that gets so much processor time, and ten times as much by the clock."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        signal.alarm(10 * seconds)
        os.chdir(ROOT)
        work()

    child = get_context("fork").Process(target=limited)
    child.start()
    return child


# --------------------------------------------------------------------------- in the child


def _show(file: str, source: str, tests: Sequence[str], order: Sequence[str], result: Path) -> None:
    name = module_name(file)
    if name in sys.modules:
        raise AuditError(f"{file} was imported before it could be changed; run its tests in a process of their own")
    sys.meta_path.insert(0, _Finder(name, ROOT / file, source))
    script = _Script({test: place for place, test in enumerate(order)})
    code = _pytest(tests, result.with_suffix(".tmp"), script)
    result.write_text(Seen(exit_code=code, killer=script.killer).model_dump_json(), encoding="utf-8")


def _rehearse(file: str, tests: Sequence[str], folder: Path) -> None:
    before = set(sys.modules)
    measured = coverage.Coverage(data_file=None, include=[str(ROOT / file)], config_file=False)
    watcher = _Watcher(measured)
    measured.start()
    try:
        code = _pytest(tests, folder / "rehearsal.tmp", watcher)
    finally:
        measured.stop()
    if code != 0:
        raise AuditError(f"{' '.join(tests)} ended with exit code {code}; run it by itself to see why")
    lines = measured.get_data().contexts_by_lineno(str(ROOT / file))
    by_test = {test: tuple(line for line, tests in lines.items() if test in tests) for test in watcher.seconds}
    imported = tuple(line for line, tests in lines.items() if "" in tests)
    modules = tuple(name for name in sys.modules if name not in before)
    told = Rehearsal(seconds=watcher.seconds, lines=by_test, imported=imported, modules=modules)
    (folder / "rehearsal.json").write_text(told.model_dump_json(), encoding="utf-8")


def _pytest(tests: Sequence[str], folder: Path, plugin: object) -> int:
    """Run tests quietly and stop at the first that fails; hypothesis draws the same examples each time."""
    from hypothesis import Phase, settings

    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("source-mutants", phases=phases, database=None, derandomize=True, deadline=None)
    settings.load_profile("source-mutants")
    words = ["-q", "-x", "--tb=no", "--disable-warnings", "-p", "no:hypothesispytest", "--basetemp", str(folder)]
    words += [word for name in _UNWANTED for word in ("-p", f"no:{name}")]
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        return int(pytest.main([*words, *tests], plugins=[plugin]))


class _Script:
    """Puts the tests in order and notes the first that fails."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self.places, self.killer = places, ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Run what is likely to notice first."""
        items.sort(key=lambda item: self.places.get(item.nodeid, len(self.places)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note who noticed."""
        if report.failed and not self.killer:
            self.killer = report.nodeid


class _Watcher:
    """Notes how long each test takes, and tells coverage which one is running."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self.measured.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A stage of it is over."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, with another source."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.loader = name, _Loader(path, source)

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Only that one."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.loader.path, loader=self.loader)


class _Loader(importlib.abc.SourceLoader):
    """Loads a source that is in no file; what is compiled is not kept."""

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source

    def get_filename(self, fullname: str) -> str:
        """Where the original is."""
        return str(self.path)

    def get_data(self, path: Any) -> bytes:
        """The source."""
        return self.source.encode("utf-8")


def module_name(file: str) -> str:
    """The dotted name of a module, from its path below the root."""
    return file.removesuffix(".py").replace("/", ".")
