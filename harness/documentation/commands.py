"""The commands of a document: lines of its shell and console blocks.

A script of the project is run with ``--help``, and every option that the document shows must be in its help text; nox
sessions, modules, extras and requirement files are looked up.
"""

import ast
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from harness.documentation.document import SHELL_LANGUAGES, Document, Reference
from harness.documentation.symbols import module_exists

SHELL_BUILTINS = ("cd", "export", "source", ".")
HELP_SECONDS = 120


def command_references(document: Document) -> tuple[Reference, ...]:
    """Every command of the document's shell blocks; project scripts are run with ``--help``, once per sub-command."""
    blocks = [block for block in document.blocks if block.language in SHELL_LANGUAGES]
    return tuple(
        Reference("command", shlex.join(words), _command_problem(words, document))
        for block in blocks
        for words in commands(block.text)
    )


def command_lines(text: str) -> list[str]:
    """The lines that a reader of a shell block types: prompts and, where there are prompts, output dropped."""
    lines = text.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return lines


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell block, split into words; variables set in front of them are dropped."""
    for line in command_lines(text):
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


def _command_problem(words: list[str], document: Document) -> str | None:
    """What is wrong with a command, or None."""
    program, arguments = words[0], words[1:]
    if program in SHELL_BUILTINS:
        return None
    if program in document.scripts:
        return _script_problem(words)
    if re.fullmatch(r"python[\d.]*", program):
        return _python_problem(arguments, document)
    if program == "nox":
        return _nox_problem(arguments, document.root)
    if program == "pip":
        return _pip_problem(arguments, document)
    return None if _find_program(program) else "there is no such program"


def _script_problem(words: list[str]) -> str | None:
    subcommand = [word for word in words[1:2] if not word.startswith("-")]
    program = _find_program(words[0])
    text = _help_text(program, *subcommand) if program else None
    if text is None:
        return f"{shlex.join([words[0], *subcommand, '--help'])} does not run"
    options = [word.split("=")[0] for word in words[1:] if re.match(r"^--[a-z]", word)]
    unknown = [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)]
    return f"unknown option {', '.join(unknown)}" if unknown else None


@cache
def _help_text(*command: str) -> str | None:
    """Standard output of ``command --help``, or None where it does not end with exit code 0."""
    wide = os.environ | {"COLUMNS": "240", "TERMINAL_WIDTH": "240", "NO_COLOR": "1", "TERM": "dumb"}
    words = [*command, "--help"]
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
        return None if module_exists(arguments[1]) else f"there is no module {arguments[1]}"
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
