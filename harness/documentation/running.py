"""Runs the code blocks of documents as a reader would: one after the other, in one folder beside the repository.

The folder has links to what the repository holds, so that paths are right, and none to what a run makes.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.documentation.blocks import runnable_blocks
from harness.documentation.commands import command_lines
from harness.documentation.document import Block, Document
from harness.documentation.paths import ignored_patterns, is_ignored

LIMIT_SECONDS = 600
#: Lines of its output that are told of a block that failed.
TOLD_LINES = 12


@dataclass(frozen=True)
class Outcome:
    """A block that was run: the first line of it, and what went wrong (None: nothing) with the end of its output."""

    document: str
    title: str
    problem: str | None


def readers_folder(root: Path, folder: Path) -> Path:
    """Fill a new folder with links to the repository: folders of its own at the top, links in them."""
    folder.mkdir(parents=True)
    generated = ignored_patterns(root)
    for source in sorted(root.iterdir()):
        if source.name.startswith(".") or is_ignored(source.name, generated):
            continue
        if source.is_file():
            (folder / source.name).symlink_to(source.resolve())
            continue
        (folder / source.name).mkdir()
        for each in sorted(source.iterdir()):
            if not is_ignored(f"{source.name}/{each.name}", generated):
                (folder / source.name / each.name).symlink_to(each.resolve())
    return folder


def run_blocks(documents: Iterable[Document], folder: Path, slow: bool = True) -> Iterator[Outcome]:
    """Run the blocks of the documents in a reader's folder, without the slow ones if those are not wanted."""
    for document in documents:
        name = document.path.relative_to(document.root).as_posix()
        for block in runnable_blocks(document):
            if slow or not block.slow:
                yield Outcome(name, block.title, _run(block, folder))


def _run(block: Block, folder: Path) -> str | None:
    if block.file is not None:
        (folder / block.file).write_text(block.text, encoding="utf-8")
        return None
    if block.language == "python":
        return _ended([sys.executable, "-c", block.to_run], folder)
    return _ended(["bash", "-euxo", "pipefail", "-c", "\n".join(command_lines(block.to_run))], folder)


def _ended(words: list[str], folder: Path) -> str | None:
    """Run a program in the folder, without a terminal and without a hub; the user's data folder is one beside it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": path, "HF_HUB_OFFLINE": "1", "XDG_DATA_HOME": f"{folder}.data", "COLUMNS": "120"}
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT_SECONDS} s"
    end = " | ".join(done.stdout.decode("utf-8", "replace").strip().split("\n")[-TOLD_LINES:])
    return None if done.returncode == 0 else f"ended with exit code {done.returncode}: {end}"
