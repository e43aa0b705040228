"""The forensic audit of 2025-11-27 as data: what it published, and what its own rows give when one does the arithmetic.

`python -m harness.baseline` writes `reports/baseline/forensic-audit.toml`; nothing in that file is typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.criteria import Criterion, Rulebook, Status, load_rulebook
from harness.evidence import Record
from harness.files import write_text

BASELINE_FILE = Path("reports/baseline/forensic-audit.toml")
_BOXES = {"[X]": 1.0, "[~]": 0.5, "[ ]": 0.0}


class Rederivation(Record):
    """A published figure beside the one that the audit's own rows give."""

    name: str
    published: str
    from_rows: float
    unit: str
    arithmetic: str


class Baseline(Record):
    """The audit's rows as it published them and its figures done again."""

    title: str
    date: str
    project: str
    rows: tuple[Criterion, ...]
    rederived: tuple[Rederivation, ...]


def forensic_baseline(rulebook: Rulebook | None = None) -> Baseline:
    """The baseline, computed from the rulebook's rows (those added by this project left out)."""
    rulebook = rulebook or load_rulebook()
    facts = rulebook.baseline
    rows = tuple(each for each in rulebook.criteria if each.baseline is not Status.GREY)
    return Baseline(
        title=facts.title,
        date=facts.date,
        project=facts.project,
        rows=rows,
        rederived=(*_scores(rows), *_checklist(rows, facts.core_features_claimed), _lines_of_code(rulebook)),
    )


def _scores(rows: Sequence[Criterion]) -> list[Rederivation]:
    overall = _value(rows, "0.overall")
    components = _section(rows, "1.1")
    green = sum(each.baseline is Status.GREEN for each in components)
    share = Rederivation(
        name="architecture match, GREEN rows of 1.1",
        published=_value(rows, "0.architecture-match"),
        from_rows=_percent(green, len(components)),
        unit="%",
        arithmetic=f"{green} of {len(components)} rows",
    )
    return [
        _mean("overall, mean of section 0", overall, _section(rows, "0"), "0.overall"),
        _mean("overall, mean of section 7", overall, _section(rows, "7"), "7.overall"),
        share,
        _mean("paper alignment, mean match of 1.2", _value(rows, "0.paper-alignment"), _section(rows, "1.2"), ""),
    ]


def _section(rows: Sequence[Criterion], section: str) -> list[Criterion]:
    return [each for each in rows if each.section == section]


def _mean(name: str, published: str, rows: Sequence[Criterion], without: str) -> Rederivation:
    values = [float(each.baseline_value.removesuffix("%")) for each in rows if each.id != without]
    terms = " + ".join(f"{value:g}" for value in values)
    mean = sum(values) / len(values)
    arithmetic = f"({terms}) / {len(values)}"
    return Rederivation(name=name, published=published, from_rows=round(mean, 1), unit="%", arithmetic=arithmetic)


def _checklist(rows: Sequence[Criterion], core_claimed: int) -> list[Rederivation]:
    boxes = _section(rows, "2")
    ticked = sum(each.baseline_value == "[X]" for each in boxes)
    integration = [each for each in boxes if each.category == "features-integration"]
    points = sum(_BOXES[each.baseline_value] for each in integration)
    core = sum(each.baseline_value == "[X]" for each in boxes if each not in integration)
    return [
        Rederivation(
            name="feature completion, boxes ticked",
            published=_value(rows, "0.feature-completion"),
            from_rows=_percent(ticked, len(boxes)),
            unit="%",
            arithmetic=f"{ticked} of {len(boxes)} boxes",
        ),
        Rederivation(
            name="integration, boxes of its group",
            published=_value(rows, "7.integration"),
            from_rows=_percent(points, len(integration)),
            unit="%",
            arithmetic=f"{points:g} of {len(integration)} boxes, a partial one counting half",
        ),
        Rederivation(
            name="core features, boxes ticked",
            published=str(core_claimed),
            from_rows=core,
            unit="boxes",
            arithmetic="ticked boxes of the groups quantization and training",
        ),
    ]


def _lines_of_code(rulebook: Rulebook) -> Rederivation:
    lines = rulebook.baseline.lines_of_code
    low, high = rulebook.baseline.lines_of_code_range
    return Rederivation(
        name="lines of code, sum of the files",
        published=f"{low} to {high}",
        from_rows=sum(lines.values()),
        unit="lines",
        arithmetic=" + ".join(map(str, lines.values())),
    )


def _value(rows: Sequence[Criterion], criterion_id: str) -> str:
    return next(each.baseline_value for each in rows if each.id == criterion_id)


def _percent(part: float, whole: int) -> float:
    return round(100 * part / whole, 1)


def to_toml(baseline: Baseline) -> str:
    """The baseline as TOML text."""
    facts = load_rulebook().baseline
    lines = ["# Written by `python -m harness.baseline` from harness/criteria.toml; do not edit.", ""]
    lines += [f"{name} = {json.dumps(getattr(baseline, name))}" for name in ("title", "date", "project")]
    lines += [f"weeks_to_production = {list(facts.weeks_to_production)}", "", "[path_to_100_percent]"]
    lines += [f"{name} = {share}" for name, share in facts.path_to_100_percent.items()]
    lines += ["", "[lines_of_code]"]
    lines += [f"{json.dumps(name)} = {count}" for name, count in facts.lines_of_code.items()]
    for each in baseline.rederived:
        lines += ["", "[[rederived]]", *(f"{name} = {json.dumps(value)}" for name, value in each.model_dump().items())]
    for row in baseline.rows:
        lines += ["", "[[row]]", f"id = {json.dumps(row.id)}", f"title = {json.dumps(row.title)}"]
        lines += [f"claim = {json.dumps(row.claim)}", f"status = {json.dumps(row.baseline.value)}"]
        lines.append(f"value = {json.dumps(row.baseline_value)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(write_text(BASELINE_FILE, to_toml(forensic_baseline())))
