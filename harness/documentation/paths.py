"""The paths and links of a document: is there a file, and a heading, where it says?

Targets of links and pictures are taken from the document's own folder, code spans that look like a file or a folder
from the repository. What .gitignore lists is made by a run, not delivered, and is left out; so are files that the
reader saves, and web addresses. A target outside the repository does not exist for those who read the document there.
"""

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

from harness.documentation.document import Document, Reference

PATH_SUFFIXES = (".py", ".toml", ".md", ".json", ".yaml", ".yml", ".txt", ".cfg", ".html", ".svg", ".png", ".sh")

_TARGETS = (
    re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)"),  # [text](target) and ![text](target), also one inside the other
    re.compile(r"^\s*\[[^\]^][^\]]*\]:\s*<?([^\s>]+)>?", re.MULTILINE),  # [name]: target
    re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"'\s]+)"""),
)
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"^\.?[\w\-.]+(/[\w\-.]+)*/?$")
_IDENTIFIER = re.compile(r"""\bid=["']([^"'\s]+)|\{#([\w.-]+)""")


def path_references(document: Document) -> tuple[Reference, ...]:
    """Every path that the document names, each held against the repository's files."""
    targets = [target.split("#")[0] for target in _targets(document)]
    named = [(target, document.path.parent) for target in targets if target]
    named += [(span, document.root) for span in document.spans if _looks_like_path(span, document.root)]
    generated, saved = ignored_patterns(document.root), {block.file for block in document.blocks}
    return tuple(
        Reference("path", name, _path_problem(folder / name, document.root))
        for name, folder in dict.fromkeys(named)
        if not is_ignored(name, generated) and name not in saved
    )


def link_references(document: Document) -> tuple[Reference, ...]:
    """Every link into the repository: to a file, and to a heading of this document or another one."""
    generated = ignored_patterns(document.root)
    return tuple(
        Reference("link", target, _link_problem(target, document))
        for target in dict.fromkeys(_targets(document))
        if not is_ignored(target, generated)
    )


def anchor(heading: str) -> str:
    """What a link calls a heading: lower case, hyphens for spaces, without punctuation and markup."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def ignored_patterns(root: Path) -> tuple[str, ...]:
    """What the repository's .gitignore lists as made by a run."""
    file = root / ".gitignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return tuple(line.strip().strip("/") for line in lines if line.strip() and not line.startswith(("#", "!")))


def is_ignored(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether the path or one of its parent folders is listed as generated; so is what stands for the reader's own."""
    parts = name.strip("/").split("/")
    prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    return any(
        fnmatch.fnmatch(candidate, pattern) for pattern in patterns for candidate in [*prefixes, *parts]
    ) or name.startswith("path/to/")


def _targets(document: Document) -> Iterator[str]:
    prose = _SPAN.sub("", document.prose)
    found = (target for pattern in _TARGETS for target in pattern.findall(prose))
    return (target for target in found if not re.match(r"[a-z][a-z0-9+.\-]*:", target, re.IGNORECASE))


def _path_problem(path: Path, root: Path) -> str | None:
    if not path.resolve().is_relative_to(root.resolve()):
        return "lies outside the repository"
    return None if path.exists() else "does not exist"


def _link_problem(target: str, document: Document) -> str | None:
    file, _, wanted = target.partition("#")
    path = document.path.parent / file if file else document.path
    problem = _path_problem(path, document.root)
    if problem is not None or not wanted:
        return problem
    if path.suffix != ".md":
        return "only headings of Markdown files can be linked to"
    there = Document(path, document.root)
    anchors = [anchor(heading) for heading in there.headings]
    repeated = [
        f"{name}-{anchors[:place].count(name)}" for place, name in enumerate(anchors) if name in anchors[:place]
    ]
    written = ["".join(pair) for pair in _IDENTIFIER.findall(there.prose)]
    return None if wanted in {*anchors, *repeated, *written} else f"{path.name} has no heading {wanted}"


def _looks_like_path(span: str, root: Path) -> bool:
    if not _PATH.match(span) or span.startswith(".."):
        return False
    if span.endswith(PATH_SUFFIXES):
        return span not in PATH_SUFFIXES  # `.json` alone is a kind of file
    return span.endswith("/") or ("/" in span and (root / span.split("/")[0]).exists())
