"""`bitnet export` and `bitnet lm-eval`: compressed models in the hands of other programs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bitnet.console import JsonOption, Output, third_party_silence
from bitnet.errors import BitnetError, first_line


def export(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="out/packed of a compressed model.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="File (gguf) or folder (huggingface) to write.", show_default=False)],
    target: Annotated[str, typer.Option("--format", help="gguf or huggingface.", show_default=False)],
    gguf_type: Annotated[
        str,
        typer.Option(help="Type of ternary layers in a GGUF file where 256 divides their rows: tq2_0, tq1_0; or f16."),
    ] = "tq2_0",
    as_json: JsonOption = False,
) -> None:
    """Write a packed model for other programs.

    huggingface: the `bitnet` format of transformers, which loads it without this package. It holds one ternary plane
    and one scale a layer.

    gguf: a file for llama.cpp, from models of the Llama family and Qwen2. Layers of one plane are stored in the ternary
    types where 256 divides their rows, else in Q4_0; sums of planes in F16. With --gguf-type f16 all of them are.

    The weights are the packed model's, exactly; what a format cannot hold is refused.

    \b
    Examples:
      bitnet export out/packed --format gguf --out model.gguf
      bitnet export out/packed --format gguf --gguf-type tq1_0 --out small.gguf
      bitnet export out/packed --format huggingface --out exported
    """
    with third_party_silence():
        from bitnet.export import GGUF_TYPES, export

        if gguf_type not in GGUF_TYPES:
            raise BitnetError(
                f"There is no GGUF type '{gguf_type}' for ternary layers: choose {', '.join(GGUF_TYPES)}."
            )
        written = export(directory, out, target, gguf_type)
    if as_json:
        typer.echo(json.dumps(written.as_dict(), indent=2, ensure_ascii=False))
        return
    console = Output(highlight=False, soft_wrap=True)
    stored = ", ".join(f"{count} layers as {kind}" for kind, count in written.matrices.items())
    console.print(f"{escape(str(written.path))}: {written.bytes / 1e6:,.1f} MB, {stored}")
    for note in written.notes:
        console.print(escape(note))


def lm_eval(context: typer.Context) -> None:
    """Run the command line of lm-eval, with our models and tasks.

    Takes the arguments of `lm_eval` (`lm_eval run --help` lists them). Beside its own models there is
    `--model bitnet --model_args path=MODEL`, and beside its own tasks those of `bitnet eval`. It needs
    bitnet-audit[eval].

    \b
    Examples:
      bitnet lm-eval --model bitnet --model_args path=out/packed --tasks bitnet_copy
      bitnet lm-eval --model bitnet --model_args path=out/packed,max_length=512 --tasks arc_easy --limit 100
    """
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError as error:
        raise BitnetError(
            f"The command line of lm-eval cannot be imported ({first_line(error)}): install bitnet-audit[eval]."
        ) from error
    from bitnet.tasks import FOLDER

    words = [] if "--include_path" in context.args else ["--include_path", str(FOLDER)]
    before = sys.argv
    sys.argv = ["lm_eval", *context.args, *words]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
