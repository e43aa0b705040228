"""`bitnet eval`: perplexity on text, and scores on the tasks of lm-eval."""

import contextlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitnet.console import JsonOption, Output, third_party_silence

if TYPE_CHECKING:
    from bitnet.models import LoadedModel

#: Input tokens of an evaluation window, where neither the user nor the model's positions say otherwise.
CONTEXT_LENGTH = 512

RunnableArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="out/packed or out/fp16 of a compressed model, or any model that `bitnet compress` takes.",
        show_default=False,
    ),
]


def evaluate(
    model: RunnableArgument,
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", help="UTF-8 file; repeatable, each one is a document.", show_default=False),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="Tasks of lm-eval instead of text; bitnet_copy and bitnet_stdlib_facts need no download.",
        ),
    ] = None,
    context_length: Annotated[
        int | None,
        typer.Option(min=1, help=f"Tokens in a window (default: {CONTEXT_LENGTH}, or the model's positions)."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows that the model reads at once.")] = 4,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Score the first tokens of the texts only (default: all).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score the first documents of each task only (default: all).")
    ] = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Measure perplexity and accuracy on text, or scores on tasks.

    Perplexity is defined as in lm-evaluation-harness: on rolling windows, summed over all tokens of all texts; accuracy
    is the share of tokens that the model finds likeliest. Tasks are run by lm-evaluation-harness itself (install
    bitnet-audit[eval]): the two local ones, and every other that comes with it, whose data it downloads.

    \b
    Examples:
      bitnet eval out/packed --text book.txt
      bitnet eval smollm2-135m --text book.txt --max-tokens 2000 --json
      bitnet eval out/packed --tasks bitnet_copy,bitnet_stdlib_facts
    """
    if bool(text) == bool(tasks):
        raise typer.BadParameter("give one of the two", param_hint="--text FILE or --tasks NAME")
    if text:
        _on_text(model, text, context_length, batch_size, max_tokens, as_json, quiet)
    else:
        _on_tasks(model, str(tasks), limit, batch_size, as_json, quiet)


def _on_text(
    model: str,
    text: list[Path],
    context_length: int | None,
    batch_size: int,
    max_tokens: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    from bitnet.text import read_text

    documents = [read_text(path) for path in text]
    with third_party_silence():
        from bitnet.perplexity import perplexity
        from bitnet.progress import Stages
        from bitnet.summary import print_evaluation

        with Stages(2, not quiet) as stages:
            with stages.stage("load"):
                loaded = _load(model)
            length = context_length or min(CONTEXT_LENGTH, int(loaded.model.config.max_position_embeddings))
            with stages.stage("evaluate") as advance:
                figures = perplexity(loaded.model, loaded.tokenizer, documents, length, batch_size, max_tokens, advance)
    names = [str(path) for path in text]
    if as_json:
        record = {"model": model, "kind": loaded.kind, "texts": names, "context_length": length, **figures.as_dict()}
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_evaluation(figures, names, f"{model}, in windows of {length} tokens", Output())


def _on_tasks(model: str, tasks: str, limit: int | None, batch_size: int, as_json: bool, quiet: bool) -> None:
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    with third_party_silence(), contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        from bitnet.task_scores import task_scores

        loaded = _load(model)
        scores = task_scores(loaded, names, limit, batch_size)
    if as_json:
        record = {"model": model, "kind": loaded.kind, "limit": limit, "tasks": scores}
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from bitnet.summary import print_scores

        print_scores(scores, model, Output())


def _load(source: str) -> "LoadedModel":
    """The model `source`, with finite weights."""
    from bitnet.models import check_weights, load_model

    loaded = load_model(source)
    check_weights(loaded.model)
    return loaded
