"""`bitnet validate`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bitnet.console import JsonOption, Output, third_party_silence

if TYPE_CHECKING:
    from bitnet.handoff_validation import Validation


def validate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="The output of `bitnet compress`, or a model that it is to compress, with its phase3.json.",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Validate what is handed from one phase to the next.

    Tells by itself which side of Phase 4 it is given. The output of a compression: every file is digested, every field
    of manifest.json held to the files and to the record of the run, and both models are loaded and run. A model that
    comes in: phase3.json is held to the tokenizer (one is made up where there is none), weights are read and the model
    is run. The first thing that is missing or wrong is named.

    \b
    Examples:
      bitnet validate out
      bitnet validate ./my-model --json

    \b
    Exit codes:
      0    everything is as the manifest says
      1    likewise, but the compression that made it missed a gate
      2    something is missing or wrong, told in one sentence
    """
    with third_party_silence():
        from bitnet.handoff_validation import validate

        found = validate(source)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _show(found)
    if found.success is False:
        raise typer.Exit(1)


def _show(found: "Validation") -> None:
    console = Output(highlight=False, soft_wrap=True)
    side = "Phase 3 to 4" if found.handoff == "phase3" else f"Phase 4 to 5, run {found.run_id}"
    console.print(f"[bold]{escape(found.path)}[/bold]: {side}")
    for check in found.checks:
        console.print(f"  {escape(check)}")
    if found.success is False:
        reason = f"missed {', '.join(found.missed)}" if found.missed else "was not verified"
        console.print(f"Valid, but no success: the compression {reason}.")
    else:
        console.print("Valid.")
