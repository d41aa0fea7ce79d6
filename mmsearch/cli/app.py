"""The typer application with all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from mmsearch import __version__
from mmsearch.cli import (
    describe,
    duplicates,
    embeddings,
    evaluate,
    facets,
    index,
    maintenance,
    manage,
    mcp,
    models,
    optimize,
    places,
    reindex,
    search,
    serve,
    sources,
    watch,
)
from mmsearch.cli.options import Group

app = typer.Typer(
    cls=Group,
    name="mmsearch",
    help="Find pictures by describing them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("index")(index.index)
app.command("init")(places.init)
app.command("watch")(watch.watch)
app.command("reindex")(reindex.reindex)
app.command("optimize")(optimize.optimize)
app.command("calibrate")(optimize.calibrate)
app.command("describe")(describe.describe)
app.command("query", cls=search.QueryCommand)(search.query)
app.command("similar")(search.similar)
app.command("facets", cls=search.QueryCommand)(facets.facets)
app.command("duplicates")(duplicates.duplicates)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.serve_mcp)
app.command("eval")(evaluate.evaluate)
app.command("status")(manage.status)
app.command("list")(manage.list_all)
app.command("check")(maintenance.check)
app.command("repair")(maintenance.repair)
app.command("compact")(maintenance.compact)
app.command("backup")(maintenance.backup)
app.command("restore")(maintenance.restore)
app.command("migrate")(places.migrate)
app.command("export")(embeddings.export)
app.command("import")(embeddings.import_)
app.command("remove")(manage.remove)
app.add_typer(manage.roots_app, name="roots", hidden=True)
app.add_typer(sources.app, name="sources")
app.add_typer(models.app, name="models")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mmsearch {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass
