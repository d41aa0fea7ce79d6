"""The table of verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from mmsearch import __version__
from mmsearch.cli import (
    assisting,
    evaluating,
    indexing,
    managing,
    models,
    optimizing,
    reindexing,
    searching,
    serving,
    upkeep,
    watching,
)

app = typer.Typer(
    name="mmsearch",
    help="Find pictures by describing them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("index")(indexing.index)
app.command("watch")(watching.watch)
app.command("reindex")(reindexing.reindex)
app.command("optimize")(optimizing.optimize)
app.command("query", cls=searching.QueryCommand)(searching.query)
app.command("similar")(searching.similar)
app.command("serve")(serving.serve)
app.command("mcp")(assisting.assist)
app.command("eval")(evaluating.evaluate)
app.command("status")(managing.status)
app.command("list")(managing.list_all)
app.command("check")(upkeep.check)
app.command("repair")(upkeep.repair)
app.command("compact")(upkeep.compact)
app.command("backup")(upkeep.backup)
app.command("restore")(upkeep.restore)
app.command("remove")(managing.remove)
app.add_typer(managing.roots_app, name="roots")
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmsearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass
