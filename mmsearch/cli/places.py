"""``mmsearch init`` and ``migrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.options import AsJson, Home, name_is_argument
from mmsearch.cli.progress import show_progress
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError


def init(
    name: Annotated[str, typer.Argument(help="Name of the index.", show_default=False)],
    home: Home = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            help="URL of the catalog: postgresql+psycopg://user@host/database.",
            metavar="URL",
            show_default="a file of SQLite in the folder",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="URL of the vector files: s3://bucket/prefix, or another one of fsspec.",
            metavar="URL",
            show_default="the folder",
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            help="URL of the search server: milvus+https://host:19530/collection or "
            "postgresql+psycopg://user@host/database.",
            metavar="URL",
            show_default="the files",
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Confirm that credentials of this machine may be sent to the servers that an "
            "existing index names.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create an empty index whose catalog, files or search are on servers.

    'mmsearch index' creates an index in a folder by itself. URLs contain no passwords: these come
    from the environment.

    Example: mmsearch init photos --store s3://bucket/photos
    """
    if trust:
        if catalog or store or search:
            raise UsageError("--trust is for an existing index.", "Leave out the URLs.")
        servers = api.trust_index(name, home=home)
        if as_json:
            output.print_json(servers)
        for part, server in servers.items() if not as_json else ():
            output.print_line(f"{part:<14}{server} is known from now on")
        return
    report = api.init_index(name, home=home, catalog=catalog, store=store, search=search)
    if as_json:
        output.print_json(report)
        return
    for part, url in report.places.items():
        output.print_line(f"{part:<14}{url}: {report.found[part]}")
    output.print_line(f"{'index':<14}{report.name} in {display_path(report.folder)}")


def migrate(
    name: Annotated[str, typer.Argument(help="Name of the index.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            help="Name of the new index, or of an empty one that 'mmsearch init' made.",
            metavar="NAME",
            show_default=False,
        ),
    ],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Copy an index to another place: from files to a store or to servers, or back.

    No picture is encoded. Numbers and the answers to sample queries are compared before the new
    index appears; the old one stays as it is. A migration that was interrupted goes on when it is
    started again.

    Example: mmsearch migrate photos --to big
    """
    with name_is_argument(), show_progress() as progress:
        report = api.migrate_index(name, to, home=home, progress=progress)
    if as_json:
        output.print_json(report)
        return
    output.print_line(
        f"{report.pictures:,} pictures, {report.files:,} vector files, "
        f"{output.human_bytes(report.bytes)} in index {report.to!r}, in {report.seconds:.1f} s."
    )
    output.warn(
        f"It answers as {report.name!r} does, which stays until 'mmsearch remove {report.name}'."
    )
