"""Renderers of a scorecard: each turns the same data into one format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import AuditError
from harness.files import write_text
from harness.history import History
from harness.render.console import render_svg
from harness.render.junit import render_junit
from harness.render.markdown import render_markdown, render_summary
from harness.render.sarif import render_sarif
from harness.render.table import render_csv
from harness.scorecard import SCORECARD_FILE, Scorecard, save


def render_html(scorecard: Scorecard, history: History | None = None) -> str:
    """The HTML report, with trends where there is a history; raises AuditError where its libraries are missing."""
    try:  # plots need matplotlib, which is not there where only the gate is installed
        from harness.render.html import render_html as render
    except ModuleNotFoundError as error:
        raise AuditError(f"the HTML report needs {error.name}; install bitnet-audit with the extra [audit]") from error
    return render(scorecard, history)


FORMATS: dict[str, Callable[[Scorecard], str]] = {
    "md": render_markdown,
    "html": render_html,
    "junit": render_junit,
    "sarif": render_sarif,
    "summary": render_summary,
    "csv": render_csv,
    "svg": render_svg,
}
REPORTS = {
    "md": "scorecard.md",
    "html": "scorecard.html",
    "junit": "junit.xml",
    "sarif": "scorecard.sarif",
    "summary": "summary.md",
    "csv": "rows.csv",
}


def write_reports(scorecard: Scorecard, directory: Path, history: History | None = None) -> tuple[Path, ...]:
    """Write scorecard.json and every report into a directory, each file whole or not at all; returns their paths.

    Everything is rendered first, so that a report that cannot be made leaves no half-new directory.
    """
    texts = {
        directory / name: render_html(scorecard, history) if format == "html" else FORMATS[format](scorecard)
        for format, name in REPORTS.items()
    }
    return (save(scorecard, directory / SCORECARD_FILE), *(write_text(path, text) for path, text in texts.items()))
