"""A Markdown file as its checks see it: fenced blocks with what is said about running them, prose, headings."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

SHELL_LANGUAGES = ("console", "shell", "sh", "bash")

_COMMENT = r"(?:^[ ]*<!--(?P<comment>(?:(?!-->).)*)-->[ ]*\n\s*)?"
_FENCE = re.compile(
    _COMMENT
    + r"^(?P<indent>[ ]*)(?P<fence>```+|~~~+)(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(
    r"\s*(?:not run:\s*(?P<excuse>.+)|saved as:\s*(?P<file>[\w./-]+)"
    r"|run(?P<slowly> slowly)?(?:\s+as:\s*\n(?P<reduced>.+))?)\s*",
    re.DOTALL,
)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Reference:
    """One thing that a document names, and what is wrong with it (None: it holds)."""

    kind: Literal["path", "command", "symbol", "link", "block"]
    text: str
    problem: str | None


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file, and what an HTML comment right above it says about running it.

    ``<!-- not run: reason -->`` gives an `excuse`. ``<!-- run as:`` and the lines up to ``-->`` give a `reduced` form,
    which is run in its place; ``slowly`` behind ``run`` leaves it to where time does not count. A block that is
    ``<!-- saved as: path -->`` is written to that file, as its reader would.
    """

    language: str
    text: str
    excuse: str | None = None
    reduced: str | None = None
    slow: bool = False
    file: str | None = None

    @property
    def title(self) -> str:
        """The first line of its text."""
        return next((line.strip() for line in self.text.splitlines() if line.strip()), "(empty block)")

    @property
    def to_run(self) -> str:
        """The text that is run for it."""
        return self.text if self.reduced is None else self.reduced


@dataclass(frozen=True)
class Document:
    """A Markdown file and the repository whose truth it must tell."""

    path: Path
    root: Path

    @cached_property
    def text(self) -> str:
        """The file's text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its fenced blocks, in order."""
        return tuple(_block(match) for match in _FENCE.finditer(self.text))

    @cached_property
    def prose(self) -> str:
        """Its text without the fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def spans(self) -> tuple[str, ...]:
        """The code spans of its prose."""
        return tuple(_SPAN.findall(self.prose))

    @cached_property
    def headings(self) -> tuple[str, ...]:
        """The text of its headings, in order."""
        return tuple(_HEADING.findall(self.prose))

    @cached_property
    def project(self) -> Mapping[str, Any]:
        """The parsed pyproject.toml of the repository; empty where there is none."""
        file = self.root / "pyproject.toml"
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    @cached_property
    def scripts(self) -> frozenset[str]:
        """The names of the programs that the project installs."""
        return frozenset(self.project.get("project", {}).get("scripts", {}))

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """The import packages at the root of the repository."""
        return tuple(sorted(path.parent.name for path in self.root.glob("*/__init__.py")))


def documents(root: Path) -> tuple[Document, ...]:
    """The README of a repository, and what lies under its docs/; none where there is neither."""
    files = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return tuple(Document(file, root) for file in files if file.is_file())


def _block(match: re.Match[str]) -> Block:
    text = "".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True))
    mark = _MARK.fullmatch(match["comment"] or "")
    language = match["language"].lower()
    if mark is None:
        return Block(language, text)
    reduced = None if mark["reduced"] is None else dedent(mark["reduced"]).strip() + "\n"
    excuse = None if mark["excuse"] is None else " ".join(mark["excuse"].split())
    return Block(language, text, excuse, reduced, mark["slowly"] is not None, mark["file"])
