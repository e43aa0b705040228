"""Renderers of a scorecard: each turns the same data into one format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import AuditError
from harness.files import write_text
from harness.render.console import render_svg
from harness.render.junit import render_junit
from harness.render.markdown import render_markdown, render_summary
from harness.scorecard import SCORECARD_FILE, Scorecard, save


def _html(scorecard: Scorecard) -> str:
    try:  # plots need matplotlib, which is not there where only the gate is installed
        from harness.render.html import render_html
    except ModuleNotFoundError as error:
        raise AuditError(f"the HTML report needs {error.name}; install bitnet-audit with the extra [audit]") from error
    return render_html(scorecard)


FORMATS: dict[str, Callable[[Scorecard], str]] = {
    "md": render_markdown,
    "html": _html,
    "junit": render_junit,
    "summary": render_summary,
    "svg": render_svg,
}
REPORTS = {"md": "scorecard.md", "html": "scorecard.html", "junit": "junit.xml", "summary": "summary.md"}


def write_reports(scorecard: Scorecard, directory: Path) -> tuple[Path, ...]:
    """Write scorecard.json and every report into a directory, each file whole or not at all; returns their paths.

    Everything is rendered first, so that a report that cannot be made leaves no half-new directory.
    """
    texts = {directory / name: FORMATS[format](scorecard) for format, name in REPORTS.items()}
    return (save(scorecard, directory / SCORECARD_FILE), *(write_text(path, text) for path, text in texts.items()))
