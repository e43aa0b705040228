"""Runs the code blocks of documents as a reader would: one after the other, in one folder, beside the repository.

The folder has links to what the repository holds, so that paths are right, and none to what a run makes. The project's
programs are called in a process forked from one that has imported the heavy libraries; all else is run by bash. No hub
is asked.
"""

import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from harness.documentation.blocks import runnable_blocks
from harness.documentation.commands import SHELL_BUILTINS, command_lines, commands
from harness.documentation.document import Block, Document
from harness.documentation.paths import ignored_patterns, is_ignored

LIMIT_SECONDS = 600
HEAVY = ("torch", "transformers")
"""Imported once for all programs, where the project requires them."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"}


@dataclass(frozen=True)
class Outcome:
    """A block that was run: what went wrong (None: nothing), with the end of what it printed."""

    document: str
    title: str
    problem: str | None


def readers_folder(root: Path, folder: Path) -> Path:
    """Fill a new folder with links to the repository: folders of its own at the top, links in them."""
    generated = ignored_patterns(root)
    for source in sorted(root.iterdir()):
        if source.name.startswith(".") or is_ignored(source.name, generated):
            continue
        if source.is_dir():
            (folder / source.name).mkdir(parents=True)
            for each in sorted(source.iterdir()):
                if not is_ignored(f"{source.name}/{each.name}", generated):
                    (folder / source.name / each.name).symlink_to(each.resolve())
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / source.name).symlink_to(source.resolve())
    return folder


def run_blocks(documents: Iterable[Document], folder: Path, slow: bool = True) -> Iterator[Outcome]:
    """Run the blocks of the documents in a reader's folder, without the slow ones if those are not wanted."""
    for document in documents:
        name = document.path.relative_to(document.root).as_posix()
        for block in runnable_blocks(document):
            if slow or not block.slow:
                yield Outcome(name, block.title, _run(block, folder, document))


def _run(block: Block, folder: Path, document: Document) -> str | None:
    if block.language == "python":
        return _forked(_execute, (block.to_run,), folder, document)
    lines = command_lines(block.to_run)
    if any(line.split()[:1] == [builtin] for line in lines for builtin in SHELL_BUILTINS):
        return _shell("\n".join(lines), folder)
    for line in lines:
        problem = _run_line(line, folder, document)
        if problem is not None:
            return f"`{line.strip()}` {problem}"
    return None


def _run_line(line: str, folder: Path, document: Document) -> str | None:
    """Run one line: calls of the project's programs joined by && in forks, anything else in bash."""
    plain = re.search(r"[|<>;$*?~`\\]|(?<!&)&(?!&)", line) is None
    called, functions = list(commands(line)), document.scripts
    if not plain or any(words[0] not in functions for words in called):
        return _shell(line, folder)
    problems = (_forked(_call, (functions[words[0]], words), folder, document) for words in called)
    return next((problem for problem in problems if problem is not None), None)


def _shell(script: str, folder: Path) -> str | None:
    beside = str(Path(sys.executable).parent)
    environment = os.environ | OFFLINE | {"PATH": os.pathsep.join([beside, os.environ.get("PATH", "")])}
    words = ["bash", "-euo", "pipefail", "-c", script]
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT_SECONDS} s"
    return _told(done.returncode, done.stdout)


def _forked(work: Callable[..., None], arguments: tuple[object, ...], folder: Path, document: Document) -> str | None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in HEAVY if name in document.requirements])
    log = folder.with_name(f"{folder.name}.log")
    process = context.Process(target=_in_folder, args=(folder, log, os.environ | OFFLINE, work, arguments))
    process.start()
    process.join(LIMIT_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return f"did not end within {LIMIT_SECONDS} s"
    return _told(process.exitcode, log.read_bytes())


def _told(code: int, printed: bytes) -> str | None:
    end = " | ".join(printed.decode("utf-8", "replace").split("\n")[-12:]).strip()
    return None if code == 0 else f"ended with exit code {code}: {end}"


# --------------------------------------------------------------------------- in the forked process


def _in_folder(
    folder: Path, log: Path, environment: Mapping[str, str], work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    """Do the work in the reader's folder; what it prints, and its traceback, go to the log."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, "")
    with log.open("wb") as file, Path(os.devnull).open("rb") as nothing:
        for stream, place in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(stream.fileno(), place)
    work(*arguments)


def _execute(text: str) -> None:
    exec(compile(text, "the block", "exec"), {"__name__": "__main__"})


def _call(function: str, words: Sequence[str]) -> None:
    """Call the function behind a script, such as "package.module:main", as its program would."""
    sys.argv = list(words)
    module, _, name = function.partition(":")
    sys.exit(getattr(import_module(module), name)())
