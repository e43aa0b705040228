"""Earlier scorecards of one subject, and how its scores and key figures moved: what the trends of a report show.

A run belongs to the history of another one if it audited the same subject in the same profile on the same models, ran
every check and was complete. What it said of itself counts, by the rules of its own day.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from harness.criteria import Rulebook, load_rulebook
from harness.errors import AuditError
from harness.scorecard import Scorecard, load
from harness.status import RowFigure


@dataclass(frozen=True)
class Point:
    """One run: scores are in 0..1, None where nothing was measured; `figures` by "criterion/figure", the worst ones."""

    started: datetime.datetime
    commit: str
    overall: float | None
    categories: dict[str, float | None]
    figures: dict[str, RowFigure]


@dataclass(frozen=True)
class History:
    """The runs from the oldest to the newest one, and a sentence for each file that could not be read."""

    points: tuple[Point, ...] = ()
    unreadable: tuple[str, ...] = ()


def read_history(directory: Path, scorecard: Scorecard, rulebook: Rulebook | None = None) -> History:
    """The runs in a directory that are comparable with a scorecard, and that scorecard itself.

    A directory that does not exist holds none; a file that is no scorecard is named and left out.

    Raises:
        AuditError: the scorecard itself does not say when it started.
    """
    rulebook = rulebook or load_rulebook()
    points, unreadable = {}, []
    for path in sorted(directory.glob("*.json")):
        try:
            found = load(path)
            moment = _moment(found.started, path)
        except AuditError as error:
            unreadable.append(str(error))
            continue
        if _comparable(found, scorecard):
            points[found.started] = _point(found, moment, rulebook)
    now = _moment(scorecard.started, "the scorecard")
    points[scorecard.started] = _point(scorecard, now, rulebook)
    return History(tuple(sorted(points.values(), key=lambda point: point.started)), tuple(unreadable))


def _comparable(found: Scorecard, scorecard: Scorecard) -> bool:
    same = (found.subject.name, found.profile, found.models) == (
        scorecard.subject.name,
        scorecard.profile,
        scorecard.models,
    )
    return same and found.complete and not found.only


def _point(scorecard: Scorecard, moment: datetime.datetime, rulebook: Rulebook) -> Point:
    figures: dict[str, RowFigure] = {}
    for row in scorecard.criteria:
        for figure in row.figures:
            if f"{row.id}/{figure.name}" in rulebook.trends:
                figures.setdefault(f"{row.id}/{figure.name}", figure)
    return Point(
        started=moment,
        commit=scorecard.commit.id if scorecard.commit else "",
        overall=scorecard.overall.score,
        categories={category.id: category.score for category in scorecard.categories},
        figures=figures,
    )


def _moment(text: str, source: Path | str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise AuditError(f"{source} started at {text!r}, which is no time; run the audit again") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
