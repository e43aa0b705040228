"""What all commands print with: results to standard output, and libraries kept from talking into them."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else.")]


class Output(Console):
    """Standard output with tables, where it is a terminal in colours."""

    def on_broken_pipe(self) -> None:
        """Leave it to the command line's group: rich would exit with 1, which means a missed gate here."""
        raise BrokenPipeError


@contextlib.contextmanager
def third_party_silence() -> Iterator[None]:
    """Libraries keep their warnings and progress bars to themselves, and what they print goes to standard error."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        if not sys.warnoptions:  # python -W asks for them
            warnings.simplefilter("ignore")
        from bitnet.huggingface import quiet

        with quiet():
            yield
