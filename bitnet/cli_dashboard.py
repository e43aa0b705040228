"""The command `bitnet dashboard`."""

from pathlib import Path
from typing import Annotated

import typer

PORT = 8501


def dashboard(
    reports: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the audit's reports.")] = Path("reports"),
    run: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Output folder of `bitnet compress`, or a folder that holds some; repeatable (default: this folder).",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port on this machine; no other machine reaches it.")
    ] = PORT,
) -> None:
    """Show scorecards and runs in a browser.

    The scorecard down to its evidence, runs with their gates, layers, speed and outputs, the progress of a run that is
    under way; and start a compression, or try a model. Everything is read from files, so it can be ended (Ctrl-C) and
    started again at any time. Needs the extra [dashboard].

    \b
    Examples:
      bitnet dashboard
      bitnet dashboard --reports reports --run out --port 8600
    """
    from bitnet.dashboard.server import serve

    typer.echo(f"The dashboard is at http://127.0.0.1:{port}", err=True)
    serve(reports, run or [], port)
