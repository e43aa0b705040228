"""The Markdown reports, the whole one and the CI step summary: GitHub's dialect, every foreign text escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from harness.render.numbers import clean, plural
from harness.render.page import Category, Page, build_page
from harness.render.rows import CheckView, FigureView, Mark, RowView
from harness.scorecard import Scorecard

SUMMARY_ROWS = 25  # rows of the list of what is not met in the step summary; the report has them all

# What would start markup inside a line, and what would start a block at its beginning. An underscore between letters
# starts nothing.
_INLINE = re.compile(r"[\\`*\[\]|#~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=:)//|(?<=www)\.")
_AT_START = re.compile(r"^(\s*)([-+=]|\d+(?=[.)](?:\s|$)))")


# --------------------------------------------------------------------------- escaping


def text(foreign: str) -> str:
    """Foreign text on one line, with nothing left in it that Markdown or HTML would read as markup."""
    line = " ".join(clean(foreign).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _INLINE.sub(lambda match: "\\" + match[0], line)
    return _AT_START.sub(lambda match: f"{match[1]}\\{match[2]}" if not match[2].isdigit() else f"{match[0]}\\", line)


def code(foreign: str) -> str:
    """Foreign text as a code span, also in a table and with backticks inside."""
    line = " ".join(clean(foreign).split()).replace("|", "\\|")
    if not line:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    padding = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> list[str]:
    """A table whose last `right` columns are set to the right; cells are Markdown."""
    rules = ["---"] * (len(head) - right) + ["---:"] * right
    return ["", *(f"| {' | '.join(cells)} |" for cells in (head, rules, *rows)), ""]


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return ["<details>", f"<summary>{html.escape(clean(title))}</summary>", "", *lines, "", "</details>", ""]


# --------------------------------------------------------------------------- the reports


def render_markdown(scorecard: Scorecard) -> str:
    """The whole report; the same scorecard gives the same text."""
    page = build_page(scorecard)
    lines = [*_head(page), *_scores(page), *_not_met(page.attention, len(page.attention))]
    for category in page.categories:
        lines += _category(category)
    return _joined([*lines, *_published(page), *_arithmetic(page), *_environment(page)])


def render_summary(scorecard: Scorecard) -> str:
    """The step summary of a CI run: the headline, the scores by category and what is not met."""
    page = build_page(scorecard)
    lines = [*_head(page), *_scores(page), *_not_met(page.attention, SUMMARY_ROWS)]
    return _joined([*lines, "The evidence of every row is in scorecard.html and scorecard.json.", ""])


def _joined(lines: Iterable[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def _head(page: Page) -> list[str]:
    lines = [f"# {text(page.headline)}", "", text(page.verdict), ""]
    if page.problems:
        lines += ["> [!CAUTION]", "> **This run is not complete.**", ">"]
        lines += [*(f"> - {text(problem)}" for problem in page.problems), ""]
    if page.restriction:
        lines += ["> [!WARNING]", f"> This run was restricted to {text(page.restriction)}: the other rows were left"]
        lines += ["> unmeasured on purpose.", ""]
    tiles = ((text(tile.label), f"**{text(tile.value)}**", text(tile.note)) for tile in page.tiles)
    lines += _table(("", "Score", ""), tiles)
    return [*lines, " · ".join(f"{text(name)}: {text(value)}" for name, value in page.facts), ""]


def _scores(page: Page) -> list[str]:
    head = ("Category", "Then", "Now", *map(_mark, page.marks))
    rows = [
        (text(each.title), each.then.text, each.now.text, *(str(count.number) for count in each.counts))
        for each in page.categories
    ]
    total = (page.then.text, page.now.text, *(str(count.number) for count in page.counts))
    rows.append(("**Overall**", *(f"**{cell}**" for cell in total)))
    meaning = ", ".join(f"{_mark(mark)}: {mark.meaning}" for mark in page.marks)
    told = (
        f"Then: the forensic audit of {text(page.baseline_date)}, by the rule of this report. Now: this run. {meaning}."
    )
    return ["## Then and now", "", told, *_table(head, rows, right=6)]


def _not_met(rows: Sequence[RowView], most: int) -> list[str]:
    if not rows:
        return []
    lines = ["## Not met", "", "Measured and not met, or behind the forensic audit.", *_rows(rows[:most])]
    if len(rows) > most:
        lines += [f"… and {plural(len(rows) - most, 'more row')}.", ""]
    return lines


def _category(category: Category) -> list[str]:
    lines = [f"## {text(category.title)}", "", text(category.summary), *_rows(category.rows)]
    return [*lines, *_folded("Evidence, row by row", [line for row in category.rows for line in _evidence(row)])]


def _rows(rows: Iterable[RowView]) -> list[str]:
    told = (
        (f"**{text(row.title)}**<br>{code(row.id)}", f"{_mark(row.baseline)} → {_mark(row.status)}", _measured(row))
        for row in rows
    )
    return _table(("Claim", "Then → now", "Measured"), told)


def _mark(mark: Mark) -> str:
    return f"{mark.symbol} {mark.word}"


def _measured(row: RowView) -> str:
    return "<br>".join([*map(_figure, row.figures), *([text(row.reason)] if row.reason else [])])


def _figure(figure: FigureView) -> str:
    parts = [f"{text(figure.name)} **{text(figure.value)}**"]
    if figure.mark and figure.verdict:
        parts.append(f"{figure.mark.symbol} {figure.verdict}")
    parts += [text(each) for each in (figure.interval,) if each]
    parts += [
        f"{word} {text(each)}" for word, each in (("target", figure.target), ("tolerance", figure.tolerance)) if each
    ]
    return ", ".join(parts)


def _evidence(row: RowView) -> list[str]:
    lines = [f"- **{text(row.title)}** {code(row.id)}", f"  - claim: {text(row.claim)}"]
    lines += [f"  - then: {_mark(row.baseline)}, {text(row.baseline_value)}"]
    lines += [f"  - reading: {text(row.reading)}"] if row.reading else []
    lines += [f"  - how it is measured: {text(row.explanation)}", f"  - what it earns: {text(row.arithmetic)}"]
    sources = ", ".join(code(source) for source, _ in row.derived_from)
    lines += [f"  - derived from: {sources}"] if sources else []
    lines += [f"  - {text(row.left_out)}"] if row.left_out else []
    lines += [f"  - other measurement: {_figure(figure)}" for figure in row.other_figures]
    lines += [f"  - {_check(check)}" for check in row.checks]
    lines += [f"  - artefact {text(name)}: {code(digest)}" for name, digest in row.artefacts]
    return [*lines, f"  - again: {code(row.command)} ({text(row.ran)})"]


def _check(check: CheckView) -> str:
    parts = [f"{check.symbol} {check.words} {code(check.nodeid)} in {check.duration}"]
    parts += [text(each) for each in (check.message, *check.notes) if each]
    return ": ".join([parts[0], "; ".join([*parts[1:], *map(_figure, check.figures)])]).removesuffix(": ")


def _published(page: Page) -> list[str]:
    rows = (
        (text(each.name), text(each.published), text(each.from_rows), text(each.arithmetic)) for each in page.recounts
    )
    told = "Its own rows, put through its own arithmetic, beside what it published."
    head = ("Figure", "Published", "From its rows", "Arithmetic")
    return ["## The forensic audit's figures, done again", "", told, *_table(head, rows)]


def _arithmetic(page: Page) -> list[str]:
    lines = ["## How the scores are made", "", text(page.rule), ""]
    for each in page.sums:
        told = f"{each.title}: {each.then.sum} = {each.then.text} then, {each.now.sum} = {each.now.text} now"
        rows = [(code(line.id), line.then or "not audited", line.now) for line in each.lines]
        rows.append(("**Sum / weight**", f"**{each.then.sum}**", f"**{each.now.sum}**"))
        lines += _folded(told, _table(("Row", "Then", "Now"), rows, right=2))
    total = page.total
    rows = [(text(each.title), each.then.sum, each.now.sum) for each in page.sums]
    sums = tuple(f"**{share.sum} = {share.text}**" for share in (total.then, total.now))
    return [*lines, *_table(("Category", "Then", "Now"), [*rows, ("**Overall**", *sums)], right=2)]


def _environment(page: Page) -> list[str]:
    rows = ((text(name), code(value)) for name, value in page.environment)
    again = [f"The whole scorecard again: {code(page.command)}", ""]
    return ["## Where and with what it ran", *_table(("", ""), rows), *again]
