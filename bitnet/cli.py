"""The command line `bitnet`: compress, eval, export, generate, bench, settings, validate, registry, lm-eval, dashboard.

Exit codes: 0 success, 1 a finished run that missed a gate, 2 bad input (one sentence on standard error), 130
interrupted, 143 terminated. Results go to standard output, progress and errors to standard error. torch and
transformers are imported by the commands that need them, and not by `--help`.
"""

import contextlib
import importlib.metadata
import io
import itertools
import os
import signal
import sys
import textwrap
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from bitnet.cli_dashboard import dashboard
from bitnet.cli_eval import RunnableArgument, evaluate
from bitnet.cli_export import export, lm_eval
from bitnet.cli_handoff import validate
from bitnet.cli_registry import registry
from bitnet.config import Phase4Config, allowed_values
from bitnet.console import JsonOption, Output, third_party_silence
from bitnet.errors import LONGEST_SENTENCE, BitnetError, out_of_memory, shortened

if TYPE_CHECKING:
    from bitnet.result import Phase4Result

#: Exit codes beside 0; 141 is what a shell reports of a program that wrote into a closed pipe.
MISSED, BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141
#: The record of a run, as in `bitnet.result.RESULT`, whose module imports torch.
_RESULT = "result.json"


class Terminated(KeyboardInterrupt):
    """Another signal than Ctrl-C's asks the program to end; `code` is the exit code that a shell expects then."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


class Commands(TyperGroup):
    """The commands, with the outcomes that they share turned into exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was chosen; no traceback for bad input, Ctrl-C, too little memory, a closed pipe."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            resumable = ctx.invoked_subcommand == "compress"
            typer.echo("Interrupted: the same command goes on from here." if resumable else "Interrupted.", err=True)
            code = error.code if isinstance(error, Terminated) else INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
            code = CLOSED_PIPE
        except Exception as error:
            if out_of_memory(error):
                error = BitnetError("There is not enough memory: free some, or lower batch_size, and try again.")
            if not isinstance(error, BitnetError):
                raise
            typer.echo(f"Error: {shortened(str(error), LONGEST_SENTENCE)}", err=True)
            code = BAD_INPUT
        raise typer.Exit(code)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: examples stay lines that can be copied, and a log gets no boxes
    context_settings={"help_option_names": ["--help", "-h"]},
)

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A Hugging Face folder, a .gguf file, a hub id, or a built-in model (smollm2-135m, tiny), of the type "
        "llama, qwen2, gpt2, gpt_neox or opt.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Processor cores to use at most.")]
PlanesOption = Annotated[
    int | None,
    typer.Option(min=1, max=3, help="Ternary matrices that a weight is the sum of; the fallback chain adds none."),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        help="Where a gate of quality is missed, try longer recovery, more planes and half precision for the "
        "costliest layers; no such step starts after so many minutes."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bitnet {importlib.metadata.version('bitnet-audit')}")
        raise typer.Exit


@app.callback()
def bitnet(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compress a causal language model to ternary (1.58-bit) weights, and run it.

    \b
    Examples:
      bitnet compress smollm2-135m --out out
      bitnet eval out/packed --text FILE
      bitnet generate out/packed "Once upon a time"
      bitnet bench out/packed
      bitnet export out/packed --format gguf --out model.gguf
      bitnet validate out
      bitnet registry push out my-model

    Exit codes: 0 success; 1 a compressed model missed a gate; 2 bad input, told in one sentence; 130 interrupted.
    """


@app.command()
def compress(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="Folder for the outputs.", show_default=False)],
    config: Annotated[Path | None, typer.Option(help="YAML file of settings, one `key: value` a line.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting, which goes before --config; repeatable. `bitnet settings` lists them.",
        ),
    ] = None,
    planes: PlanesOption = None,
    max_minutes: MinutesOption = None,
    as_json: JsonOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")] = False,
) -> None:
    """Compress a model to ternary weights.

    Writes OUT/packed (the ternary model), OUT/fp16 (the same model for every program that reads Hugging Face folders),
    OUT/result.json (what was measured and decided) and OUT/manifest.json (digests, for the next phase), once both
    models have been reloaded and checked. On an error, and on Ctrl-C, nothing is left there; what has been done so far
    is kept in a hidden folder beside OUT, and the same command goes on from it. So it does after a crash.

    Off unless asked for: tracking=offline keeps a record for Weights & Biases in OUT/wandb, tracking=online sends it as
    well, registry=NAME puts the output into the MLflow model registry (see `bitnet registry`). Where one of them does
    not answer, the run goes on, and the result says so.

    \b
    Examples:
      bitnet compress tiny --out out
      bitnet compress smollm2-135m --out out --set codec=base3 --set embedding_dtype=int8
      bitnet compress smollm2-135m --out out --max-minutes 60
      bitnet compress smollm2-135m --out out --set tracking=offline --set registry=smollm2
      bitnet compress ./my-model --out out --config phase4.yaml --json > result.json

    \b
    Exit codes:
      0    every gate was passed and the outputs were verified
      1    the outputs were written, but a gate was missed or the verification failed
      2    bad input, told in one sentence; nothing was written
      130  interrupted; the same command goes on (143 where SIGTERM did it)
    """
    base = Phase4Config() if config is None else Phase4Config.from_yaml(config)
    chosen = base.with_overrides([*(settings or []), *_flags(planes, max_minutes)])
    # torch, not yet imported, then asks for huge pages: of a streamed model every layer is memory that is new.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    with third_party_silence():
        from bitnet.phase_controller import run_phase4
        from bitnet.workers import Workers

        result = run_phase4(model, out, chosen, progress=not quiet, force=force)
    if Workers.current().first:
        _tell(result, out, as_json, quiet)


def _tell(result: "Phase4Result", out: Path, as_json: bool, quiet: bool) -> None:
    """Show what was measured, and end with the exit code that it deserves."""
    from bitnet.summary import print_result, verdict

    if as_json:
        typer.echo((out / _RESULT).read_text(encoding="utf-8"), nl=False)
    elif not quiet:
        print_result(result, out, Output())
    if not result.success:
        if as_json or quiet:
            typer.echo(verdict(result)[0], err=True)
        raise typer.Exit(MISSED)


def _flags(planes: int | None, max_minutes: float | None) -> list[str]:
    """What the flags stand for, as settings: a number of planes that is asked for is what the budget pays for."""
    flags = [] if planes is None else [f"planes={planes}", "bits_budget=null"]
    return flags if max_minutes is None else [*flags, f"max_minutes={max_minutes}"]


@app.command()
def generate(
    model: RunnableArgument,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Text to continue.", show_default=False)],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where to stop, unless the model does earlier.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token; 1 samples as learnt.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the sampling.")] = 0,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put the prompt into the model's chat template, and print the answer alone.")
    ] = False,
    threads: ThreadsOption = 1,
    backend: Annotated[
        str | None,
        typer.Option(help='Kernels of a packed model, such as avx2 or portable; "torch" runs it through transformers.'),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell what runs, and how fast.")] = False,
) -> None:
    """Continue a prompt.

    Prints the prompt and then its continuation, as it comes. A packed model of the Llama family or Qwen2 runs in the
    native runtime, every other one through transformers; which it is, and the speed, is told on standard error.

    \b
    Examples:
      bitnet generate out/packed "Once upon a time"
      bitnet generate out/packed "Why is the sky blue?" --chat --max-new-tokens 200
      bitnet generate out/fp16 "The " --max-new-tokens 20 --temperature 0.8 --seed 1
    """
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise BitnetError("The prompt is not valid UTF-8: check the encoding of the terminal.") from None
    output = sys.stdout
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
    with contextlib.redirect_stdout(sys.stderr):
        with console.status("loading the model"):
            from bitnet.engines import Stopwatch, open_engine

            engine = open_engine(model, backend, threads)
        tokens = engine.encode(prompt, chat)
        stopwatch = Stopwatch(engine.tokens(tokens, max_new_tokens, temperature, seed))
        console.print(engine.name, style="dim", markup=False)
        started = False
        try:
            for piece in itertools.chain([] if chat else [prompt], engine.text(tokens, iter(stopwatch))):
                typer.echo(piece, file=output, nl=False)
                started = True
        finally:
            if started:  # also on Ctrl-C
                typer.echo(file=output)
        console.print(str(stopwatch), style="dim", markup=False)


@app.command()
def bench(
    model: Annotated[
        str,
        typer.Argument(metavar="DIR", help="out/packed of a compressed model, or out itself.", show_default=False),
    ],
    against: Annotated[
        str, typer.Option(help="Precisions of the original model, with commas between: fp32, bf16, fp16.")
    ] = "fp32,bf16",
    baseline: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The original model (default: as result.json beside DIR says).")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="How often every model is timed, at most.")] = 7,
    seconds: Annotated[float, typer.Option(min=0, help="No round, but for three, is begun that would end later.")] = 60,
    threads: ThreadsOption = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the order within a round.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure speed and memory against the original model.

    Decoding, prefill, time to the first token and resident memory of the packed model, and of the original through
    `generate` of transformers. All of them take turns in random order; what counts is the ratio of medians with its
    95 % interval. Before that, the packed model's outputs are compared with those of transformers on the same folder.

    \b
    Examples:
      bitnet bench out/packed
      bitnet bench out --against bf16 --rounds 15 --json > speed.json
    """
    with third_party_silence():
        from bitnet.arms import precisions
        from bitnet.benchmark import baseline_of, packed_folder, run_benchmark
        from bitnet.benchmark_table import print_benchmark

        wanted, folder = precisions(against), packed_folder(model)
        source = baseline or baseline_of(folder)
        options = {"rounds": rounds, "threads": threads, "seed": seed}
        found = run_benchmark(folder, source, wanted, seconds=seconds, progress=not quiet, **options)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_benchmark(found, Output())


@app.command(name="settings")
def list_settings() -> None:
    """List the settings of `bitnet compress`.

    Each with its default, what it is, and what it takes. A setting is given as --set codec=base3, or as the line
    `codec: base3` in a file for --config.
    """
    console = Output(highlight=False)
    width = min(console.width, 100) - 4
    for name, field in Phase4Config.model_fields.items():
        default = f"{field.default:g}" if isinstance(field.default, float) else field.default
        console.print(f"[bold]{name}[/bold] = {'null' if default is None else default}")
        about = (field.description or "").split("\n\n")[0].replace("None", "null")
        about = textwrap.fill(f"{about} Takes {allowed_values(name)}.", width)
        console.print(textwrap.indent(about, "    "), markup=False)


app.command(name="eval")(evaluate)
app.command()(export)
app.command()(validate)
app.add_typer(registry, name="registry")
app.command()(dashboard)
app.command(name="lm-eval", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(lm_eval)


def _end(number: int, _: FrameType | None) -> None:
    """End as on Ctrl-C, so that nothing is left half-written; with the exit code that a shell expects."""
    raise Terminated(number)


def main() -> None:
    """Entry point of the program `bitnet`."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that the terminal cannot show is no reason to stop
    app()
