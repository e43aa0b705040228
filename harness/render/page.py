"""A scorecard in words and pictures, before any markup: what the HTML, Markdown and console reports have in common."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from harness.baseline import Rederivation, forensic_baseline
from harness.criteria import Status, load_rulebook
from harness.render.arithmetic import (
    Share,
    Sum,
    published_means,
    published_overall,
    share_now,
    share_then,
    sum_of,
)
from harness.render.numbers import clean, number, percent, plural, seconds, with_unit
from harness.render.rows import MARKS, Mark, PlotLink, RowView, row_view
from harness.scorecard import CategoryScore, Row, Scorecard


@dataclass(frozen=True)
class Count:
    """How many rows have a status."""

    mark: Mark
    number: int


@dataclass(frozen=True)
class Tile:
    """One headline figure."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Category:
    """One category with its rows and scores."""

    id: str
    anchor: str
    title: str
    then: Share
    now: Share
    counts: tuple[Count, ...]
    rows: tuple[RowView, ...]
    summary: str


@dataclass(frozen=True)
class Recount:
    """A figure that the forensic audit published, beside what its own rows give."""

    name: str
    published: str
    from_rows: str
    arithmetic: str


@dataclass(frozen=True)
class Page:
    """Everything that a report says, in the order in which it says it."""

    subject: str
    headline: str
    verdict: str
    problems: tuple[str, ...]
    restriction: str
    baseline_date: str
    tiles: tuple[Tile, ...]
    facts: tuple[tuple[str, str], ...]
    marks: tuple[Mark, ...]
    counts: tuple[Count, ...]
    baseline_counts: tuple[Count, ...]
    then: Share
    now: Share
    categories: tuple[Category, ...]
    attention: tuple[RowView, ...]
    unmeasured: tuple[RowView, ...]
    recounts: tuple[Recount, ...]
    rule: str
    sums: tuple[Sum, ...]
    total: Sum
    environment: tuple[tuple[str, str], ...]
    command: str


def build_page(scorecard: Scorecard, plots: dict[str, tuple[PlotLink, ...]] | None = None) -> Page:
    """The contents of a report; `plots` links checks (by node id) to the plots of a report that draws them."""
    views = {row.id: row_view(scorecard, row, plots or {}) for row in scorecard.criteria}
    now, then = share_now(scorecard.criteria), share_then(scorecard.criteria, scorecard.scoring)
    subject = clean(f"{scorecard.subject.name} {scorecard.subject.version}")
    counts = _counts(row.status for row in scorecard.criteria)
    measured = [row for row in scorecard.criteria if not row.derived_from]
    sums = tuple(_category_sum(scorecard, category) for category in scorecard.categories)
    return Page(
        subject=subject,
        headline=_headline(scorecard, subject, now),
        verdict=_verdict(scorecard, counts),
        problems=tuple(map(clean, scorecard.problems)),
        restriction=clean(", ".join(scorecard.only)),
        baseline_date=load_rulebook().baseline.date,
        tiles=_tiles(scorecard, then, now),
        facts=_facts(scorecard),
        marks=tuple(MARKS.values()),
        counts=counts,
        baseline_counts=_counts(row.baseline for row in scorecard.criteria),
        then=then,
        now=now,
        categories=tuple(_category(scorecard, category, views) for category in scorecard.categories),
        attention=tuple(views[row.id] for row in measured if row.status is Status.RED or views[row.id].worse),
        unmeasured=tuple(views[row.id] for row in measured if row.status is Status.GREY),
        recounts=tuple(map(_recount, forensic_baseline().rederived)),
        rule=_rule(scorecard),
        sums=tuple(each for each in sums if each.lines),
        total=sum_of("Overall", scorecard.criteria, scorecard.scoring),
        environment=_environment(scorecard),
        command=_command(scorecard),
    )


def _recount(figure: Rederivation) -> Recount:
    return Recount(figure.name, figure.published, with_unit(number(figure.from_rows), figure.unit), figure.arithmetic)


def rows_of(scorecard: Scorecard, category: CategoryScore) -> list[Row]:
    """The rows of a category, in the order of the rulebook."""
    return [row for row in scorecard.criteria if row.category == category.id]


def _counts(statuses: Iterable[Status]) -> tuple[Count, ...]:
    found = list(statuses)
    return tuple(Count(mark, found.count(status)) for status, mark in MARKS.items())


def _category(scorecard: Scorecard, category: CategoryScore, views: dict[str, RowView]) -> Category:
    rows = rows_of(scorecard, category)
    counts = _counts(row.status for row in rows)
    then, now = share_then(rows, scorecard.scoring), share_now(rows)
    told = ", ".join(f"{count.number} {count.mark.meaning}" for count in counts if count.number)
    if then.weight or now.weight:
        told += f"; {then.text} then, {now.text} now"
    return Category(
        id=category.id,
        anchor=f"category-{category.id}",
        title=category.title,
        then=then,
        now=now,
        counts=counts,
        rows=tuple(views[row.id] for row in rows),
        summary=told,
    )


def _category_sum(scorecard: Scorecard, category: CategoryScore) -> Sum:
    return sum_of(category.title, rows_of(scorecard, category), scorecard.scoring)


# --------------------------------------------------------------------------- words


def _headline(scorecard: Scorecard, subject: str, now: Share) -> str:
    """The score, never without saying that it is not that of a whole run."""
    if now.value is None:
        return f"{subject} was not measured"
    limits = (
        " in a run that is not complete" if scorecard.problems else " on a selection of rows" if scorecard.only else ""
    )
    return f"{subject} scores {now.text}{limits}"


def _verdict(scorecard: Scorecard, counts: Iterable[Count]) -> str:
    told = ", ".join(f"{count.number} {count.mark.meaning}" for count in counts if count.number)
    return f"{plural(len(scorecard.criteria), 'criterion', 'criteria')}: {told}."


def _tiles(scorecard: Scorecard, then: Share, now: Share) -> tuple[Tile, ...]:
    audited = [row for row in scorecard.criteria if row.baseline is not Status.GREY]
    same = share_now(audited)
    means = published_means(scorecard)
    tables = " and ".join(percent(mean / 100) for mean in means)
    published = "The score that the forensic audit gives itself."
    if tables:
        published += f" Its own score tables average {tables}."
    return (
        Tile("This run", now.text, f"{now.sum} of the weight of all rows; what was not measured earns nothing."),
        Tile("Published", published_overall(scorecard), published),
        Tile(
            "What its rows give", then.text, f"{then.sum}, by the rule of this report; the same rows now: {same.text}."
        ),
    )


def _facts(scorecard: Scorecard) -> tuple[tuple[str, str], ...]:
    facts = (
        ("Profile", scorecard.profile),
        ("Models", ", ".join(scorecard.models) or "none"),
        ("Seed", str(scorecard.seed)),
        ("Commit", _commit(scorecard)),
        ("Started", _started(scorecard)),
        ("Machine", f"{scorecard.environment.cpu}, {plural(scorecard.environment.cores, 'core')}"),
    )
    return tuple((name, clean(value)) for name, value in facts)


def _started(scorecard: Scorecard) -> str:
    try:
        started = datetime.datetime.fromisoformat(scorecard.started).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        started = scorecard.started
    return f"{started}, took {seconds(scorecard.duration)}" if scorecard.finished else started


def _commit(scorecard: Scorecard) -> str:
    if scorecard.commit is None:
        return "unknown"
    return scorecard.commit.id[:12] + (" with uncommitted changes" if scorecard.commit.dirty else "")


def _rule(scorecard: Scorecard) -> str:
    credit = scorecard.scoring.credit
    green, yellow = (f"{100 * each:g} %" for each in (scorecard.scoring.green_from, scorecard.scoring.yellow_from))
    earned = ", ".join(f"{status.value} {credit[status]:g}" for status in Status)
    return (
        f"A row earns its weight times the credit of its status ({earned}); a score is the sum of what was earned over "
        f"the sum of the weights. Rows that were not measured stay in the sum of the weights. A row derived from other "
        f"rows is GREEN from {green}, YELLOW from {yellow}, and "
        f"carries no weight of its own. The forensic audit's statuses are put through the same rule."
    )


def _environment(scorecard: Scorecard) -> tuple[tuple[str, str], ...]:
    environment = scorecard.environment
    named = (
        ("Subject", f"{scorecard.subject.name} {scorecard.subject.version} ({scorecard.subject.spec})"),
        ("Commit", f"{scorecard.commit.id}{', work tree changed' if scorecard.commit.dirty else ''}")
        if scorecard.commit
        else ("Commit", "unknown"),
        ("Fingerprint", environment.fingerprint),
        ("Rules", scorecard.rules or "unknown"),
        ("Python", environment.python),
        ("Platform", f"{environment.platform}, {environment.machine}"),
        ("Processor", f"{environment.cpu}, {plural(environment.cores, 'usable core')}"),
        *environment.libraries.items(),
        *((f"threads: {name}", value) for name, value in environment.threads.items()),
    )
    return tuple((clean(name), clean(value)) for name, value in named)


def _command(scorecard: Scorecard) -> str:
    """The command that makes the whole scorecard, told by the command of any of its rows."""
    if not scorecard.criteria:
        return ""
    command = scorecard.criteria[0].command
    return clean(command.rpartition(" --only ")[0] or command)
