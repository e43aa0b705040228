"""Does a document tell the truth about its repository: do the paths, commands and symbols it names exist?

Three kinds of references are read from a Markdown file:

- paths: link and picture targets, taken from the document's own folder, and code spans that look like a file or a
  folder of the repository. What .gitignore lists is made by a run, not delivered, and is left out; so are web
  addresses. A target outside the repository does not exist for those who read the document there;
- commands: lines of shell and console blocks. A script of the project is run with ``--help`` and every option that
  the document shows must be in its help text; nox sessions, modules, extras and requirement files are looked up;
- symbols: what Python blocks import from the project's own packages, and dotted names in code spans.
"""

import ast
import fnmatch
import importlib
import importlib.util
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

PATH_SUFFIXES = (".py", ".toml", ".md", ".json", ".yaml", ".yml", ".txt", ".cfg", ".html", ".svg", ".png", ".sh")
SHELL_LANGUAGES = ("console", "shell", "sh", "bash")
SHELL_BUILTINS = ("cd", "export", "source", ".")
HELP_SECONDS = 120

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_TARGETS = (
    re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)"),  # [text](target) and ![text](target), also one inside the other
    re.compile(r"^\s*\[[^\]^][^\]]*\]:\s*<?([^\s>]+)>?", re.MULTILINE),  # [name]: target
    re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"'\s]+)"""),
)
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"^\.?[\w\-.]+(/[\w\-.]+)*/?$")


@dataclass(frozen=True)
class Reference:
    """One thing that a document names, and what is wrong with it (None: it holds)."""

    kind: Literal["path", "command", "symbol"]
    text: str
    problem: str | None


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file."""

    language: str
    text: str


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
        return tuple(Block(match[1].lower(), match[2]) for match in _FENCE.finditer(self.text))

    @cached_property
    def prose(self) -> str:
        """Its text without the fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def project(self) -> Mapping[str, Any]:
        """The parsed pyproject.toml of the repository; empty where there is none."""
        file = self.root / "pyproject.toml"
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """The import packages at the root of the repository."""
        return tuple(sorted(path.parent.name for path in self.root.glob("*/__init__.py")))


def path_references(document: Document) -> tuple[Reference, ...]:
    """Every path that the document names, each held against the repository's files."""
    prose = _SPAN.sub("", document.prose)
    targets = [target.split("#")[0] for pattern in _TARGETS for target in pattern.findall(prose)]
    named = [(target, document.path.parent) for target in targets if target and not _is_address(target)]
    named += [(span, document.root) for span in _SPAN.findall(document.prose) if _looks_like_path(span, document.root)]
    generated = _ignored_patterns(document.root)
    return tuple(
        Reference("path", name, _path_problem(folder / name, document.root))
        for name, folder in dict.fromkeys(named)
        if not _matches(name, generated)
    )


def _is_address(target: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.\-]*:", target, re.IGNORECASE) is not None


def _path_problem(path: Path, root: Path) -> str | None:
    if not path.resolve().is_relative_to(root.resolve()):
        return "lies outside the repository"
    return None if path.exists() else "does not exist"


def command_references(document: Document) -> tuple[Reference, ...]:
    """Every command of the document's shell blocks; project scripts are run with ``--help``, once per sub-command."""
    help_texts: dict[tuple[str, ...], str | None] = {}
    return tuple(
        Reference("command", shlex.join(words), _command_problem(words, document, help_texts))
        for words in _commands(document)
    )


def symbol_references(document: Document) -> tuple[Reference, ...]:
    """Every name of the project's own packages that Python blocks import or code spans write out."""
    names: list[str] = []
    broken: list[Reference] = []
    for block in document.blocks:
        if block.language != "python":
            continue
        try:
            names += _imported_names(ast.parse(block.text), document.packages)
        except SyntaxError as error:
            first = block.text.strip().splitlines()[0] if block.text.strip() else "(empty block)"
            broken.append(Reference("symbol", first, f"the block is not valid Python (line {error.lineno})"))
    dotted = re.compile(rf"^(?:{'|'.join(map(re.escape, document.packages)) or '(?!)'})(\.\w+)+(\(\))?$")
    names += [span.removesuffix("()") for span in _SPAN.findall(document.prose) if _is_symbol(span, dotted)]
    return (*broken, *(Reference("symbol", name, _symbol_problem(name)) for name in dict.fromkeys(names)))


def _is_symbol(span: str, dotted: re.Pattern[str]) -> bool:
    return dotted.match(span) is not None and not span.endswith(PATH_SUFFIXES)


def _looks_like_path(span: str, root: Path) -> bool:
    if not _PATH.match(span) or span.startswith(".."):
        return False
    if span.endswith(PATH_SUFFIXES):
        return span not in PATH_SUFFIXES  # `.json` alone is a kind of file
    return span.endswith("/") or ("/" in span and (root / span.split("/")[0]).exists())


def _ignored_patterns(root: Path) -> tuple[str, ...]:
    file = root / ".gitignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return tuple(line.strip().strip("/") for line in lines if line.strip() and not line.startswith(("#", "!")))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether the path or one of its parent folders is listed as generated."""
    parts = name.strip("/").split("/")
    prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    return any(
        fnmatch.fnmatch(candidate, pattern) for pattern in patterns for candidate in [*prefixes, *parts]
    ) or name.startswith("path/to/")


def _commands(document: Document) -> Iterator[list[str]]:
    """The simple commands of all shell blocks, split into words; prompts, output and variables are dropped."""
    for block in document.blocks:
        if block.language not in SHELL_LANGUAGES:
            continue
        lines = block.text.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            try:
                yield from _simple_commands(line)
            except ValueError:  # an open quotation: the line is no command as it stands
                yield [line]


def _simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set("|&;"):
            while command and re.match(r"^\w+=", command[0]):
                command = command[1:]
            if command:
                yield command
            command = []
        else:
            command.append(word)


def _command_problem(words: list[str], document: Document, help_texts: dict[tuple[str, ...], str | None]) -> str | None:
    """What is wrong with a command, or None."""
    program, arguments = words[0], words[1:]
    if program in SHELL_BUILTINS:
        return None
    if program in document.project.get("project", {}).get("scripts", {}):
        return _script_problem(words, help_texts)
    if re.fullmatch(r"python[\d.]*", program):
        return _python_problem(arguments, document)
    if program == "nox":
        return _nox_problem(arguments, document.root)
    if program == "pip":
        return _pip_problem(arguments, document)
    return None if _find_program(program) else "there is no such program"


def _script_problem(words: list[str], help_texts: dict[tuple[str, ...], str | None]) -> str | None:
    subcommand = [word for word in words[1:2] if not word.startswith("-")]
    key = (words[0], *subcommand)
    if key not in help_texts:
        help_texts[key] = _help_text(key)
    text = help_texts[key]
    if text is None:
        return f"{shlex.join([*key, '--help'])} does not run"
    options = [word.split("=")[0] for word in words[1:] if re.match(r"^--[a-z]", word)]
    unknown = [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)]
    return f"unknown option {', '.join(unknown)}" if unknown else None


def _help_text(command: tuple[str, ...]) -> str | None:
    """Standard output of ``command --help``, or None where it does not end with exit code 0."""
    program = _find_program(command[0])
    if program is None:
        return None
    wide = os.environ | {"COLUMNS": "240", "TERMINAL_WIDTH": "240", "NO_COLOR": "1", "TERM": "dumb"}
    words = [program, *command[1:], "--help"]
    try:
        finished = subprocess.run(words, capture_output=True, text=True, timeout=HELP_SECONDS, env=wide, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return finished.stdout if finished.returncode == 0 else None


def _find_program(name: str) -> str | None:
    """A program beside the running interpreter, else on the search path."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def _python_problem(arguments: list[str], document: Document) -> str | None:
    if arguments[:2] == ["-m", "pip"]:
        return _pip_problem(arguments[2:], document)
    if arguments[:2] == ["-m", "nox"]:
        return _nox_problem(arguments[2:], document.root)
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        return None if _module_exists(arguments[1]) else f"there is no module {arguments[1]}"
    scripts = [word for word in arguments[:1] if word.endswith(".py")]
    return None if all((document.root / script).is_file() for script in scripts) else f"{scripts[0]} does not exist"


def _pip_problem(arguments: list[str], document: Document) -> str | None:
    """Extras, groups and files asked for must exist; whether an index has a package is no business of this check."""
    known = document.project.get("project", {}).get("optional-dependencies", {})
    name = document.project.get("project", {}).get("name", "")
    for flag, word in itertools.pairwise(["", *arguments]):
        match = re.fullmatch(rf"(?:\.|{re.escape(name)})\[([\w\-, ]+)\].*", word)
        missing = [extra.strip() for extra in match[1].split(",") if extra.strip() not in known] if match else []
        if missing:
            return f"there is no extra {', '.join(missing)}"
        if flag in ("-c", "-r", "--constraint", "--requirement") and not (document.root / word).is_file():
            return f"{word} does not exist"
        if flag == "--group" and word not in document.project.get("dependency-groups", {}):
            return f"there is no dependency group {word}"
    return None


def _nox_problem(arguments: list[str], root: Path) -> str | None:
    file = root / "noxfile.py"
    if not file.is_file():
        return "there is no noxfile.py"
    known = _nox_sessions(ast.parse(file.read_text(encoding="utf-8")))
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    asked = [
        name
        for place, word in enumerate(own)
        if word in ("-s", "-e", "--session", "--sessions")
        for name in itertools.takewhile(lambda each: not each.startswith("-"), own[place + 1 :])
    ]
    missing = [name for name in asked if name not in known]
    return f"there is no nox session {', '.join(missing)}" if missing else None


def _nox_sessions(tree: ast.Module) -> frozenset[str]:
    """Names of the functions that a noxfile decorates as sessions."""
    names = set()
    for node in tree.body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not ast.unparse(call).endswith("session") or not isinstance(node, ast.FunctionDef):
                continue
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            given = [ast.literal_eval(keyword.value) for keyword in keywords if keyword.arg == "name"]
            names.add(given[0] if given else node.name)
    return frozenset(names)


def _imported_names(tree: ast.Module, packages: tuple[str, ...]) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in packages]


def _module_exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _symbol_problem(name: str) -> str | None:
    """Import the longest prefix of ``name`` that is a module, then follow the attributes."""
    parts = name.split(".")
    modules = [end for end in range(len(parts), 0, -1) if _module_exists(".".join(parts[:end]))]
    if not modules:
        return f"there is no module {parts[0]}"
    found: Any = importlib.import_module(".".join(parts[: modules[0]]))
    for part in parts[modules[0] :]:
        if not hasattr(found, part):
            return f"{getattr(found, '__name__', found)} has no {part}"
        found = getattr(found, part)
    return None
