"""The file of expected failures: what is known to fail, as conformance suites keep it.

One entry a line, a criterion's id or a check's node id, in which `*` stands for anything; what follows ` #` is the
reason, and empty lines and lines that begin with `#` are comments:

    # Slower than llama.cpp on machines without AVX-512.
    1.1.inference-speedup                      # issue 12
    suites/test_packing.py::test_exact[base3*] # the padding of odd rows

An entry changes no status and no score: it takes away the breach of a threshold that a row which was measured and fell
short (RED or YELLOW) would cause. A row is also covered where every check that failed is. What was not measured, is not
finite or was edited is never expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.criteria import Status
from harness.files import read_text
from harness.scorecard import Row, Scorecard

_FAILING = (Status.RED, Status.YELLOW)


@dataclass(frozen=True)
class Entry:
    """One line of the file."""

    pattern: str
    reason: str
    place: str

    @property
    def names_check(self) -> bool:
        """Whether it names checks, not criteria."""
        return "::" in self.pattern

    def matches(self, name: str) -> bool:
        """Whether the pattern names this; only `*` is special, for node ids are full of brackets."""
        first, *rest = self.pattern.split("*")
        if not rest:
            return name == first
        at = len(first) if name.startswith(first) else -1
        for piece in rest[:-1]:  # the first place is always good enough, so there is nothing to go back to
            found = name.find(piece, at) if at >= 0 else -1
            at = found + len(piece) if found >= 0 else -1
        return at >= 0 and name.endswith(rest[-1]) and at <= len(name) - len(rest[-1])


@dataclass(frozen=True)
class Expectations:
    """Every entry, in the order of the file."""

    entries: tuple[Entry, ...] = ()

    def covering(self, scorecard: Scorecard, row: Row) -> Entry | None:
        """The entry by which a row is expected to fall short, if it does; None for a row that does not."""
        if row.status not in _FAILING:
            return None
        for entry in self.entries:
            if not entry.names_check and entry.matches(row.id):
                return entry
        return self._covering_its_checks(scorecard, row)

    def _covering_its_checks(self, scorecard: Scorecard, row: Row) -> Entry | None:
        checks = scorecard.checks_of(row)
        failed = [check.nodeid for check in checks if check.outcome in ("failed", "error")]
        entries = [self._of_check(nodeid) for nodeid in failed]
        if not failed or any(figure.status is Status.RED for figure in row.figures):
            return None
        if any(not figure.finite for check in checks for figure in check.figures.values()):
            return None
        return entries[0] if all(entries) else None

    def _of_check(self, nodeid: str) -> Entry | None:
        return next((each for each in self.entries if each.names_check and each.matches(nodeid)), None)

    def warnings(self, scorecard: Scorecard) -> Iterator[str]:
        """A sentence for each entry that names nothing, or something that did not fail."""
        states = {row.id: row.status.value for row in scorecard.criteria}
        failing = {row.id for row in scorecard.criteria if row.status in _FAILING}
        outcomes: dict[str, str] = {check.nodeid: check.outcome for check in scorecard.checks}
        broken = {nodeid for nodeid, outcome in outcomes.items() if outcome in ("failed", "error")}
        for entry in self.entries:
            known, bad = (outcomes, broken) if entry.names_check else (states, failing)
            named = [name for name in known if entry.matches(name)]
            if not named:
                yield f"{entry.place}: {entry.pattern!r} matches nothing; correct or remove it"
            for name in named:
                if name in bad:
                    continue
                if known[name] in (Status.GREY.value, "skipped", "not_applicable"):
                    yield f"{entry.place}: {name} is expected to fail, but was not measured ({known[name]})"
                else:
                    yield f"{entry.place}: {name} is expected to fail, but is {known[name]}; remove the entry"


def read_expectations(path: Path) -> Expectations:
    """Read the file; raises AuditError where that is impossible."""
    text = read_text(path, "the expected failures", "name another file")
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        pattern, _, reason = re.sub(r"(^|\s)#", r"\1\0", line).partition("\0")
        if pattern.strip():
            entries.append(Entry(pattern.strip(), reason.replace("\0", "#").strip(), f"{path.name}, line {number}"))
    return Expectations(tuple(entries))
