"""The rulebook for reading: every criterion explained, as Markdown, from criteria.toml alone."""

from __future__ import annotations

from collections.abc import Iterator

from harness.criteria import Criterion, Derivation, FigureRule, Rulebook, Scoring
from harness.render.markdown import code, text
from harness.render.numbers import number, percent

BEGINNING = """\
# Every criterion, explained

Made from `harness/criteria.toml`, which the scorecard is judged by. A claim is quoted from the forensic audit, or is
one of this project's own; where the audit contradicts itself, *read as* says what is held to instead. Measure any row
alone with `bitnet-audit run --only ID`.
"""


def render_rulebook(rulebook: Rulebook) -> str:
    """One section a category, one sub-section a criterion, in the order of the rulebook."""
    lines = [BEGINNING, *_scoring(rulebook.scoring)]
    for key, title in rulebook.categories.items():
        lines += [f"## {text(title)}", ""]
        for criterion in rulebook.criteria:
            if criterion.category == key:
                lines += [*_criterion(criterion), ""]
    return "\n".join(lines).rstrip() + "\n"


def _scoring(scoring: Scoring) -> Iterator[str]:
    credit = ", ".join(f"{status} {number(value)}" for status, value in scoring.credit.items())
    green, yellow = percent(scoring.green_from), percent(scoring.yellow_from)
    yield f"A status earns credit: {credit}. A row that is computed from others is GREEN from {green} of their weighted"
    yield f"mean on, and YELLOW from {yellow} on."
    yield ""


def _criterion(criterion: Criterion) -> Iterator[str]:
    yield f"### {text(criterion.title)}"
    yield ""
    yield f"{code(criterion.id)}: {text(criterion.claim)}"
    yield ""
    if criterion.reading is not None:
        yield f"- *Read as:* {text(criterion.reading)}"
    yield f"- *Measured:* {text(criterion.explanation)}"
    for name, rule in criterion.figures.items():
        yield f"- *Figure* {code(name)}: {_figure(rule)}"
    if criterion.derive is not None:
        yield f"- *Computed from other rows:* {_derivation(criterion.derive)}"
    yield f"- *Weight:* {number(criterion.weight)}. *In the forensic audit:* {criterion.baseline}, " + text(
        criterion.baseline_value
    )


def _figure(rule: FigureRule) -> str:
    unit = f" {text(rule.unit)}" if rule.unit else ""
    tolerance = f", YELLOW at {code(rule.tolerance)}" if rule.tolerance is not None else ""
    judged = "; both ends of its 95 % interval have to meet it" if rule.judged_on == "interval" else ""
    return f"GREEN at {code(rule.target)}{unit}{tolerance}{judged}"


def _derivation(derive: Derivation) -> str:
    if derive.mean_of:
        return "the weighted mean credit of " + ", ".join(map(code, derive.mean_of))
    return "the lowest, in percent, of " + ", ".join(map(code, derive.figure_of))
