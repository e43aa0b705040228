"""The capability of a subject that shows its figures to people: a program for the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class ShowsDashboard(Protocol):
    """Has a dashboard that reads scorecards and the outputs of compressions from their files.

    `reports` is a folder with `latest/scorecard.json`, `runs` one that holds output folders; either may be empty. Both
    operations raise ModuleNotFoundError where an optional requirement is not installed, which is then not measured.
    """

    def dashboard_command(self, reports: Path, runs: Path, port: int) -> Sequence[str]:
        """The words that start it on that port of this machine, until it is ended."""
        ...

    def dashboard_texts(self, reports: Path, runs: Path) -> Mapping[str, str]:
        """All that each page shows when it is opened, as text, by the page's name; raises where a page breaks."""
        ...
