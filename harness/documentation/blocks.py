"""The code blocks of a document: each can be run as it stands or in a form declared beside it, or says why it cannot.

Blocks of shell and Python are code; blocks of TOML, YAML and JSON are data, which has to parse. All others (output,
listings) are text.
"""

import ast
import json
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from harness.documentation.commands import command_lines, commands
from harness.documentation.document import SHELL_LANGUAGES, Block, Document, Reference

CODE = (*SHELL_LANGUAGES, "python")
DATA: Mapping[str, Callable[[str], Any]] = {
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "yml": yaml.safe_load,
    "json": json.loads,
}


def block_references(document: Document) -> tuple[Reference, ...]:
    """Every block of code or data, with what keeps it from being run or read."""
    blocks = [block for block in document.blocks if block.language in (*CODE, *DATA)]
    return tuple(Reference("block", block.title, _block_problem(block, document)) for block in blocks)


def runnable_blocks(document: Document) -> tuple[Block, ...]:
    """The blocks that are saved as files, and those of code that no excuse keeps from being run, in order."""
    return tuple(block for block in document.blocks if block.file or (block.language in CODE and block.excuse is None))


def excused_blocks(document: Document) -> tuple[Block, ...]:
    """The blocks of code that are not run, for the reason that they give."""
    return tuple(block for block in document.blocks if block.language in CODE and block.excuse is not None)


def _block_problem(block: Block, document: Document) -> str | None:
    if block.language in DATA:
        return _data_problem(block)
    missing = _left_out(block, document)
    if missing:
        return f"its reduced form leaves out {', '.join(missing)}"
    for text in (block.text, block.to_run):
        problem = _python_problem(text) if block.language == "python" else _shell_problem(text)
        if problem:
            return problem
    return None


def _data_problem(block: Block) -> str | None:
    try:
        DATA[block.language](block.text)
    except (ValueError, yaml.YAMLError) as error:
        return f"is no {block.language.upper()}: {' '.join(str(error).split())}"
    return None


def _python_problem(text: str) -> str | None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        return f"is no Python (line {error.lineno})"
    return None


def _shell_problem(text: str) -> str | None:
    bash = shutil.which("bash")
    if bash is None:
        return "there is no bash to read it"
    script = "\n".join(command_lines(text))
    done = subprocess.run([bash, "-n"], input=script, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"bash cannot read it: {' '.join(done.stderr.split())}"


def _left_out(block: Block, document: Document) -> list[str]:
    """The project's commands that stand in a block and not, as often, in what is run for it."""
    if block.reduced is None or block.language == "python":
        return []
    shown, run = (Counter(_project_commands(text, document)) for text in (block.text, block.reduced))
    return list(shown - run)


def _project_commands(text: str, document: Document) -> list[str]:
    return [
        " ".join(words[:1] + [word for word in words[1:2] if not word.startswith("-")])
        for words in commands(text)
        if words[0] in document.scripts
    ]
