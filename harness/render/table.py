"""The rows of a scorecard as CSV, one flat record each, for data frames and spreadsheets: `pandas.read_csv(path)`."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

from harness.render.numbers import clean
from harness.scorecard import Row, Scorecard

_OF_THE_RUN = ("subject", "subject_version", "profile", "models", "seed", "started")
_OF_THE_ROW = ("id", "section", "category", "title", "status", "baseline", "weight", "credit", "score")
_OF_THE_FIGURE = ("figure", "value", "unit", "low", "high", "target", "tolerance")
_EVIDENCE = ("reason", "command", "environment", "commit", "artefacts")
COLUMNS = (*_OF_THE_ROW, *_OF_THE_FIGURE, *_EVIDENCE, *_OF_THE_RUN)


def render_csv(scorecard: Scorecard) -> str:
    """One record for each row, with the figure that decides it, or nothing in its place."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    run = {
        "subject": scorecard.subject.name,
        "subject_version": scorecard.subject.version,
        "profile": scorecard.profile,
        "models": " ".join(scorecard.models),
        "seed": scorecard.seed,
        "started": scorecard.started,
    }
    writer.writerows(_record(row) | run for row in scorecard.criteria)
    return text.getvalue()


def _record(row: Row) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in (*_OF_THE_ROW, "reason", "command", "environment", "commit")}
    told["reason"] = " ".join(clean(row.reason).split())
    told["artefacts"] = " ".join(f"{name}={digest}" for name, digest in row.artefacts.items())
    return told | _figure(row)


def _figure(row: Row) -> dict[str, Any]:
    """The figure that gives the row its status: of its figures' worst measurements, the first one as bad as the row."""
    if not row.figures:
        return {}
    worst = next((figure for figure in row.figures if figure.status is row.status), row.figures[0])
    low, high = worst.interval or (None, None)
    value = {"figure": worst.name, "value": worst.value, "unit": worst.unit, "low": low, "high": high}
    return value | {"target": worst.target, "tolerance": worst.tolerance}
