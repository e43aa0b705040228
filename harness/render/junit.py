"""The scorecard as JUnit XML: a suite of the run, one of the checks and one of the criteria, with their figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from harness.criteria import Status
from harness.evidence import CheckRecord
from harness.render.numbers import clean
from harness.render.page import build_page
from harness.render.rows import RowView
from harness.scorecard import Row, Scorecard

_TAGS = {"failed": "failure", "error": "error", "skipped": "skipped", "not_applicable": "skipped"}
_ROW_TAGS = {Status.RED: "failure", Status.GREY: "skipped"}
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def render_junit(scorecard: Scorecard) -> str:
    """The XML text; the same scorecard gives the same text. A YELLOW row is a passed test with its status beside it."""
    page = build_page(scorecard)
    root = Element("testsuites", name="bitnet-audit")
    checks = [_check(record) for record in scorecard.checks]
    views = {view.id: view for category in page.categories for view in category.rows}
    criteria = [_criterion(row, views[row.id]) for row in scorecard.criteria if row.id in views]
    told = dict([("overall score", page.now.text), *page.facts, *page.environment])
    _suite(root, "run", [_run(scorecard)], scorecard, told.items())
    _suite(root, "checks", checks, scorecard)
    _suite(root, "criteria", criteria, scorecard)
    for name in ("tests", *_COUNTED):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{scorecard.duration:.3f}")
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(
    root: Element,
    name: str,
    cases: Sequence[Element],
    scorecard: Scorecard,
    properties: Iterable[tuple[str, str]] = (),
) -> None:
    suite = SubElement(root, "testsuite", name=f"bitnet-audit {name}", tests=str(len(cases)))
    for attribute, tag in _COUNTED.items():
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")
    suite.set("timestamp", clean(scorecard.started))
    _properties(suite, properties)
    suite.extend(cases)


def _case(classname: str, name: str, duration: float = 0.0) -> Element:
    return Element("testcase", classname=clean(classname), name=clean(name), time=f"{duration:.3f}")


def _properties(parent: Element, properties: Iterable[tuple[str, str]]) -> None:
    found = list(properties)
    if found:
        holder = SubElement(parent, "properties")
        for name, value in found:
            SubElement(holder, "property", name=clean(name), value=clean(value))


def _verdict(case: Element, tag: str, message: str, kind: str) -> None:
    first, *_ = [*clean(message).splitlines(), ""]
    SubElement(case, tag, message=first or "no message", type=kind).text = clean(message)


def _run(scorecard: Scorecard) -> Element:
    case = _case("bitnet-audit.run", "complete", scorecard.duration)
    if scorecard.problems:
        _verdict(case, "error", "This run is not complete:\n" + "\n".join(scorecard.problems), "incomplete")
    elif scorecard.only:
        _properties(case, [("restricted to", ", ".join(scorecard.only))])
    return case


def _check(record: CheckRecord) -> Element:
    path, _, name = record.nodeid.partition("::")
    case = _case(path.removesuffix(".py").replace("/", "."), name or path, record.duration)
    _properties(case, _figures(record))
    if tag := _TAGS.get(record.outcome):
        _verdict(case, tag, record.message, record.outcome)
    if record.notes:
        SubElement(case, "system-out").text = clean("\n".join(record.notes))
    return case


def _figures(record: CheckRecord) -> list[tuple[str, str]]:
    found = [("criterion", each) for each in record.criteria]
    for name, figure in record.figures.items():
        found += _figure(name, figure.value, figure.unit, figure.interval)
    return [*found, ("command", record.command)]


def _figure(name: str, value: float, unit: str, interval: tuple[float, float] | None) -> list[tuple[str, str]]:
    """The measured number in full (a machine reads this), its unit and its interval."""
    found = [(f"figure.{name}", repr(value))]
    found += [(f"figure.{name}.unit", unit)] if unit else []
    found += [(f"figure.{name}.interval95", f"{interval[0]!r} {interval[1]!r}")] if interval else []
    return found


def _criterion(row: Row, view: RowView) -> Element:
    case = _case(f"criteria.{row.category}", f"{row.id} {row.title}")
    found = [("status", row.status.value), ("status then", row.baseline.value), ("weight", f"{row.weight:g}")]
    for figure in row.figures:
        found += [
            *_figure(figure.name, figure.value, figure.unit, figure.interval),
            (f"figure.{figure.name}.target", figure.target),
        ]
    found += [(f"artefact.{name}", digest) for name, digest in row.artefacts.items()]
    _properties(case, [*found, ("command", view.command), ("ran in", view.ran)])
    if tag := _ROW_TAGS.get(row.status):
        _verdict(case, tag, row.reason, row.status.value)
    return case
