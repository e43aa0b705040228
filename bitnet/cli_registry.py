"""`bitnet registry push|list|promote|fetch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from bitnet.console import JsonOption, Output, third_party_silence

if TYPE_CHECKING:
    from bitnet.registry import RegisteredVersion, Registry

registry = typer.Typer(
    no_args_is_help=True,
    help="""Keep compressed models in an MLflow Model Registry.

    Without --uri and MLFLOW_TRACKING_URI it is an SQLite file in the user's data folder, with the models' files beside
    it; needs `pip install 'bitnet-audit[registry]'`.

    \b
    Examples:
      bitnet registry push out my-model --scorecard reports/latest/scorecard.json
      bitnet registry list
      bitnet registry promote my-model/1
      bitnet registry fetch my-model@champion --out fetched
    """,
)

UriOption = Annotated[
    str | None,
    typer.Option(help="MLflow tracking server or database, such as http://host:5000 or sqlite:///registry.db."),
]
SelectorArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="NAME/3, NAME@alias, or NAME for the newest.", show_default=False)
]


@registry.command()
def push(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The output of `bitnet compress`.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", show_default=False)],
    scorecard: Annotated[Path | None, typer.Option(help="An audit's scorecard.json, to go with it.")] = None,
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate an output and register it as a new version of a model.

    A version has the folder's files, its gates, digests and origin, the metrics, and the scorecard, if any. The same
    models with the same outcome are registered once, however often they are pushed.
    """
    with third_party_silence():
        made = _opened(uri).push(out, name, scorecard)
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        typer.echo(f"{made.name}/{made.version} {'registered' if made.created else 'was registered before'}.")


@registry.command(name="list")
def list_versions(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One model (default: all).")] = None,
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of one model, or of all."""
    with third_party_silence():
        found = _opened(uri).versions(name)
        if as_json:
            from pydantic_core import to_json
    if as_json:
        typer.echo(to_json(found, indent=2).decode())
        return
    if not found:
        typer.echo("The registry is empty: `bitnet registry push DIR NAME` registers a model.")
        return
    Output().print(_table(found))


@registry.command()
def promote(
    version: SelectorArgument,
    alias: Annotated[str, typer.Option(help="Name under which the version can be found from now on.")] = "champion",
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a version an alias; refused (exit code 2) where it missed a gate."""
    with third_party_silence():
        made = _opened(uri).promote(version, alias)
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        typer.echo(f"{made.name}/{made.version} is {made.name}@{alias}.")


@registry.command()
def fetch(
    version: SelectorArgument,
    out: Annotated[Path, typer.Option(help="Folder for the files; must not exist.", show_default=False)],
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a version to a folder, with every digest compared and both models run."""
    with third_party_silence():
        made = _opened(uri).fetch(version, out)
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        typer.echo(f"{made.name}/{made.version} is in {out}, and valid.")


def _opened(uri: str | None) -> "Registry":
    from bitnet.registry import Registry

    return Registry.opened(uri)


def _table(versions: "list[RegisteredVersion]") -> Table:
    table = Table("version", "aliases", "run", "ratio", "perplexity", "gates", box=SIMPLE_HEAD, show_edge=False)
    for row in versions:
        missed = [name for name, passed in row.gates.items() if not passed]
        table.add_row(
            escape(f"{row.name}/{row.version}"),
            escape(", ".join(row.aliases)),
            row.run_id,
            "" if row.compression_ratio is None else f"{row.compression_ratio:.2f}x",
            "" if row.final_perplexity is None else f"{row.final_perplexity:.3f}",
            f"missed {', '.join(missed)}" if missed else "passed" if row.success else "not verified",
        )
    return table
