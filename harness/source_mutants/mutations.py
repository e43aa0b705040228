"""All changes that mutmut knows to make to a Python source, but for those that no behaviour depends on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import libcst as cst
from libcst.metadata import MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

from harness.errors import AuditError
from harness.evidence import Record
from harness.source_mutants.scope import LEFT_OUT


class Mutation(Record):
    """One change to a file: the source as it becomes, the line where it begins and the function around it.

    `change` has the lines that differ, as `- before` and `+ after` without indentation.
    """

    file: str
    function: str
    line: int
    end_line: int
    change: str
    source: str

    @property
    def key(self) -> tuple[int, str]:
        """What tells a change from the others to the same file."""
        return self.line, self.change


class Mutations(Record):
    """The changes made to a file, and how many were left out, by the reason."""

    made: tuple[Mutation, ...]
    left_out: dict[str, int]


def mutations_of(source: str, file: str) -> Mutations:
    """Every change to a source, each by itself, in the order of the lines.

    Raises:
        AuditError: the source is not Python.
    """
    try:
        wrapper = MetadataWrapper(cst.parse_module(source))
    except cst.ParserSyntaxError as error:
        raise AuditError(f"{file} cannot be read as Python ({error.message}); correct it") from error
    collector = _Collector(wrapper, file)
    collector.walk(wrapper.module)
    unique = {each.key: each for each in sorted(collector.made, key=lambda each: each.line)}
    return Mutations(made=tuple(unique.values()), left_out=collector.left_out)


def change_of(before: str, after: str) -> str:
    """The lines in which two sources differ, without indentation."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    changed = [line for line in lines if line[:1] in "+-" and not line.startswith(("---", "+++"))]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in changed)


class _Collector:
    """Asks every operator of mutmut at every node."""

    def __init__(self, wrapper: MetadataWrapper, file: str) -> None:
        self.module, self.file = wrapper.module, file
        # With the brackets around an expression, which belong to it when it is written out.
        self.places = wrapper.resolve(WhitespaceInclusivePositionProvider)
        self.lines = self.module.code.splitlines(keepends=True)
        self.made: list[Mutation] = []
        self.left_out = dict.fromkeys(LEFT_OUT, 0)

    def walk(self, node: cst.CSTNode, names: tuple[str, ...] = (), reason: str = "") -> None:
        """Note every change to a node and to what it consists of; `reason` is why these are left out, if they are."""
        reason = reason or _reason(node)
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                self._note(node, operator(node), names, reason)
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            names = (*names, node.name.value)
        if isinstance(node, (cst.FormattedString, cst.ConcatenatedString)):
            reason = reason or "text"
        for child in node.children:
            self.walk(child, names, reason)

    def _note(self, node: cst.CSTNode, changed: Iterable[cst.CSTNode], names: tuple[str, ...], reason: str) -> None:
        for number, new in enumerate(changed):
            why = reason or ("spelling" if number and isinstance(node, cst.SimpleString) else "")
            if why:
                self.left_out[why] += 1
            else:
                self._make(node, new, ".".join(names))

    def _make(self, node: cst.CSTNode, new: cst.CSTNode, function: str) -> None:
        place = self.places[node]
        first, last = place.start.line - 1, place.end.line - 1
        before = "".join(self.lines[first : last + 1])
        head, tail = self.lines[first][: place.start.column], self.lines[last][place.end.column :]
        after = head + self.module.code_for_node(new) + tail
        self.made.append(
            Mutation(
                file=self.file,
                function=function,
                line=place.start.line,
                end_line=place.end.line,
                change=change_of(before, after),
                source="".join((*self.lines[:first], after, *self.lines[last + 1 :])),
            )
        )


def _reason(node: cst.CSTNode) -> str:
    """Why nothing that the code does depends on a node, "" where something may."""
    if isinstance(node, cst.Annotation):
        return "annotation"
    if isinstance(node, cst.Decorator):
        return "decorator"
    if isinstance(node, cst.Raise):
        return "error"
    return "text" if isinstance(node, cst.SimpleString) and " " in node.value else ""
