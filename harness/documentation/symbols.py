"""The names of the project's own packages in a document: what its Python blocks import, and dotted code spans."""

import ast
import importlib
import importlib.util
import re
from typing import Any

from harness.documentation.document import Document, Reference
from harness.documentation.paths import PATH_SUFFIXES


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
            broken.append(Reference("symbol", block.title, f"the block is not valid Python (line {error.lineno})"))
    dotted = re.compile(rf"^(?:{'|'.join(map(re.escape, document.packages)) or '(?!)'})(\.\w+)+(\(\))?$")
    names += [span.removesuffix("()") for span in document.spans if _is_symbol(span, dotted)]
    return (*broken, *(Reference("symbol", name, _symbol_problem(name)) for name in dict.fromkeys(names)))


def module_exists(name: str) -> bool:
    """Whether a module of that name can be found; the packages above it are imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _is_symbol(span: str, dotted: re.Pattern[str]) -> bool:
    return dotted.match(span) is not None and not span.endswith(PATH_SUFFIXES)


def _imported_names(tree: ast.Module, packages: tuple[str, ...]) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in packages]


def _symbol_problem(name: str) -> str | None:
    """Import the longest prefix of ``name`` that is a module, then follow the attributes."""
    parts = name.split(".")
    modules = [end for end in range(len(parts), 0, -1) if module_exists(".".join(parts[:end]))]
    if not modules:
        return f"there is no module {parts[0]}"
    found: Any = importlib.import_module(".".join(parts[: modules[0]]))
    for part in parts[modules[0] :]:
        if not hasattr(found, part):
            return f"{getattr(found, '__name__', found)} has no {part}"
        found = getattr(found, part)
    return None
