"""Measurements of source code by parsing it: function lengths, type hints, docstrings, imports, swallowed errors.

Nothing is imported or run, so a subject's source can be measured even where it would not start. Every measurement
returns what it counted *and* the places that fall short, so that a report can name them.
"""

import ast
import graphlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import AuditError

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class FunctionFacts:
    """One function or method. ``lines`` counts from ``def`` to the last line of its body, docstring included."""

    name: str
    where: str
    lines: int
    public: bool
    documented: bool
    needs_docstring: bool
    hinted: int
    unhinted: tuple[str, ...]


@dataclass(frozen=True)
class ModuleFacts:
    """One source file: its path relative to the tree's root, its length in lines, and what it defines."""

    path: Path
    lines: int
    public: bool
    documented: bool
    classes: tuple[tuple[str, bool], ...]
    functions: tuple[FunctionFacts, ...]


@dataclass(frozen=True)
class Share:
    """``held`` of ``total`` things have a property; ``missing`` names those without it."""

    held: int
    total: int
    missing: tuple[str, ...]

    @property
    def value(self) -> float:
        """The share in [0, 1]; NaN where there is nothing to count, so that an empty tree never passes."""
        return self.held / self.total if self.total else float("nan")


def read_tree(root: Path) -> tuple[ModuleFacts, ...]:
    """Parse every ``.py`` file under ``root``, in the order of their paths.

    Raises AuditError when there is no such file, or when one of them is not valid Python.
    """
    paths = _sources(root)
    if not paths:
        raise AuditError(f"No Python source under {root}; the subject's source_root must be its package folder.")
    return tuple(read_module(path, root) for path in paths)


def read_module(path: Path, root: Path) -> ModuleFacts:
    """Parse one source file; ``root`` is what its reported path is relative to."""
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        raise AuditError(f"{path} is not valid Python (line {error.lineno}); fix it before auditing it.") from error
    relative = path.relative_to(root)
    module_public = not any(
        part.startswith("_") and not part.startswith("__") for part in relative.with_suffix("").parts
    )
    definitions = list(_definitions(tree, public=module_public))
    return ModuleFacts(
        path=relative,
        lines=len(text.splitlines()),
        public=module_public,
        documented=ast.get_docstring(tree) is not None,
        classes=tuple(
            (f"{relative}:{node.lineno} {name}", ast.get_docstring(node) is not None)
            for node, name, public in definitions
            if isinstance(node, ast.ClassDef) and public
        ),
        functions=tuple(
            _function_facts(node, name, public, relative)
            for node, name, public in definitions
            if not isinstance(node, ast.ClassDef)
        ),
    )


def long_functions(modules: Iterable[ModuleFacts], limit: int) -> tuple[str, ...]:
    """Every function, public or not, with more than ``limit`` lines, as ``path:line name (lines)``."""
    return tuple(
        f"{function.where} {function.name} ({function.lines} lines)"
        for function in _functions(modules)
        if function.lines > limit
    )


def longest_function(modules: Iterable[ModuleFacts]) -> int:
    """Lines of the longest function; 0 when the tree defines none."""
    return max((function.lines for function in _functions(modules)), default=0)


def type_hint_share(modules: Iterable[ModuleFacts]) -> Share:
    """Share of the parameters and results of public functions and methods that are annotated.

    ``self`` and ``cls`` need no annotation, and neither does what ``__init__`` returns.
    """
    public = [function for function in _functions(modules) if function.public]
    missing = tuple(f"{each.where} {each.name}: {slot}" for each in public for slot in each.unhinted)
    held = sum(function.hinted for function in public)
    return Share(held, held + len(missing), missing)


def docstring_share(modules: Sequence[ModuleFacts]) -> Share:
    """Share of public modules, classes, functions and methods that have a docstring.

    Special methods, setters and overloads are exempt: what documents them is their class, getter or implementation.
    """
    things = [(str(module.path), module.documented) for module in modules if module.public]
    things += [entry for module in modules for entry in module.classes]
    things += [
        (f"{function.where} {function.name}", function.documented)
        for function in _functions(modules)
        if function.public and function.needs_docstring
    ]
    missing = tuple(name for name, documented in things if not documented)
    return Share(len(things) - len(missing), len(things), missing)


def import_graph(root: Path) -> dict[str, frozenset[str]]:
    """Which modules of the package at ``root`` import which others of it; imports for type checkers alone are left out.

    Names are dotted and start with the package's; a package's own module is its ``__init__``.
    """
    modules = {_module_name(path, root): path for path in _sources(root)}
    graph = {}
    for name, path in sorted(modules.items()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        imported = {target for node in _runtime_nodes(tree) for target in _imported_modules(node, package, modules)}
        graph[name] = frozenset(imported - {name})
    return graph


def import_cycle(graph: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """One cycle of imports, its first module repeated at its end; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return tuple(error.args[1])
    return ()


def imports_of(root: Path, packages: Sequence[str]) -> tuple[str, ...]:
    """Every import, anywhere under ``root``, of one of the named top-level packages, as ``path:line module``."""
    found = []
    for path, node in _nodes(root):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        found += [f"{path}:{node.lineno} {name}" for name in names if name.split(".")[0] in packages]
    return tuple(found)


def swallowed_errors(root: Path) -> tuple[str, ...]:
    """Places where any error whatever disappears.

    That is a bare ``except``, or one for Exception in whose body nothing happens: it passes on, or returns a constant.
    """
    found = []
    for path, node in _nodes(root):
        handler = isinstance(node, ast.ExceptHandler) and _swallows(node)
        call = isinstance(node, ast.Call) and _suppresses_all(node)
        if isinstance(node, ast.ExceptHandler | ast.Call) and (handler or call):
            found.append(f"{path}:{node.lineno}")
    return tuple(found)


def _sources(root: Path) -> list[Path]:
    hidden = re.compile(r"__pycache__|\..*")
    return sorted(path for path in root.rglob("*.py") if not any(map(hidden.fullmatch, path.relative_to(root).parts)))


def _nodes(root: Path) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of every source file, with the file's path relative to ``root``."""
    for path in _sources(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(root), node


def _suppresses_all(call: ast.Call) -> bool:
    return _last_name(call) == "suppress" and _is_everything(*call.args)


def _swallows(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return all(map(_does_nothing, handler.body)) and _is_everything(handler.type)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr | ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Continue | ast.Break)


def _is_everything(*types: ast.expr) -> bool:
    named = [element for each in types for element in (each.elts if isinstance(each, ast.Tuple) else [each])]
    return any(_last_name(each) in ("Exception", "BaseException") for each in named)


def _module_name(path: Path, root: Path) -> str:
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING:`` (what stands under its ``else`` is run)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
            yield from _runtime_nodes(ast.Module(node.orelse, type_ignores=[]))
            continue
        yield node
        yield from _runtime_nodes(node)


def _imported_modules(node: ast.AST, package: str, modules: Mapping[str, Path]) -> Iterator[str]:
    """The modules among ``modules`` that a statement imports: ``from p import m`` is ``p.m`` where that is one."""
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        submodules = [f"{base}.{alias.name}" for alias in node.names]
        candidates = [name if name in modules else base for name in submodules]
    else:
        return
    yield from (name for name in candidates if name in modules)


def _functions(modules: Iterable[ModuleFacts]) -> Iterator[FunctionFacts]:
    for module in modules:
        yield from module.functions


def _definitions(
    tree: ast.AST, public: bool, prefix: str = ""
) -> Iterator[tuple[FunctionNode | ast.ClassDef, str, bool]]:
    """Every class and function below ``tree`` with its dotted name; what is inside a function is private."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, FunctionNode | ast.ClassDef):
            yield from _definitions(node, public, prefix)
            continue
        name = f"{prefix}{node.name}"
        visible = public and (not node.name.startswith("_") or _is_special(node.name))
        yield node, name, visible
        yield from _definitions(node, visible and isinstance(node, ast.ClassDef), f"{name}.")


def _function_facts(node: FunctionNode, name: str, public: bool, path: Path) -> FunctionFacts:
    decorators = {_last_name(decorator) for decorator in node.decorator_list}
    slots = _annotation_slots(node, is_method="." in name and "staticmethod" not in decorators)
    unhinted = tuple(slot for slot, annotation in slots if annotation is None)
    return FunctionFacts(
        name=name,
        where=f"{path}:{node.lineno}",
        lines=(node.end_lineno or node.lineno) - node.lineno + 1,
        public=public,
        documented=ast.get_docstring(node) is not None,
        needs_docstring=not _is_special(node.name) and not decorators & {"setter", "deleter", "overload", "override"},
        hinted=len(slots) - len(unhinted),
        unhinted=unhinted,
    )


def _annotation_slots(node: FunctionNode, is_method: bool) -> list[tuple[str, ast.expr | None]]:
    """Everything of a function that can carry a type hint, with the hint that it carries."""
    positional = [*node.args.posonlyargs, *node.args.args]
    if is_method and positional and positional[0].arg in ("self", "cls"):
        positional = positional[1:]
    variadic = [argument for argument in (node.args.vararg, node.args.kwarg) if argument is not None]
    slots = [(each.arg, each.annotation) for each in [*positional, *node.args.kwonlyargs, *variadic]]
    return slots if node.name == "__init__" else [*slots, ("return", node.returns)]


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _last_name(node: ast.expr) -> str:
    """The last part of a decorator's dotted name: ``x.setter`` gives ``setter``."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
