"""``mmsearch sources``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mmsearch.cli import output
from mmsearch.cli.options import (
    AsJson,
    Group,
    Home,
    IndexName,
    WaitSeconds,
    open_index,
    runs_command,
)
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError

_UNREFRESHED = ("folder", "records")
"""Kinds of sources that are not refreshed: folders have options, and programs add records."""

app = typer.Typer(
    cls=Group, help="Show where the pictures come from, or refresh or remove a source."
)


@app.callback(invoke_without_command=True)
def sources(
    context: typer.Context,
    name: IndexName = "default",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show where the pictures come from: folders, archives, tables, stores.

    Example: mmsearch sources
    """
    if runs_command(context, name, home, as_json=as_json):
        return
    with open_index(name, home) as index:
        index_sources = index.sources()
    if as_json:
        output.print_json(index_sources)
        return
    rows = [
        (
            source.name,
            source.kind,
            display_path(source.uri),
            " ".join(f"{choice}={_format_choice(v)}" for choice, v in source.choices.items()),
        )
        for source in index_sources
    ]
    output.print_table("", ["name", "kind", "place", "choices"], rows)


def _format_choice(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@app.command("remove")
def remove_source(
    source: Annotated[str, typer.Argument(help="Name of the source.", show_default=False)],
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
) -> None:
    """Forget a source and its pictures; nothing is deleted from the source itself.

    Example: mmsearch sources remove holidays
    """
    with open_index(name, home) as index:
        count = index.remove_source(source, wait_s=wait)
        pictures = index.status().pictures
    output.warn(
        f"Source {source!r} with {count:,} files is forgotten;"
        f" index {name!r} holds {pictures:,} pictures."
    )


@app.command("refresh")
def refresh_source(
    source: Annotated[
        str | None, typer.Argument(help="Name of the source.", show_default="all but folders")
    ] = None,
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
) -> None:
    """Bring the index up to date with sources that are not folders, with the choices it keeps.

    Example: mmsearch sources refresh
    """
    with open_index(name, home) as index:
        known = index.sources()
        chosen = [
            s for s in known if s.name == source or (source is None and s.kind not in _UNREFRESHED)
        ]
        if not chosen:
            names = ", ".join(s.name for s in known if s.kind not in _UNREFRESHED) or "none"
            raise UsageError(
                "There is no source to refresh."
                if source is None
                else f"There is no source named {source!r}.",
                f"Known: {names}.",
            )
        if chosen[0].kind == "folder":
            place = display_path(chosen[0].uri)
            raise UsageError(f"{source!r} is a folder.", f"Run: mmsearch index {place}")
        if chosen[0].kind == "records":
            raise UsageError(
                f"{source!r} are pictures that a program added.", "Add them again with Index.add."
            )
        for each in chosen:
            report = index.add_source(os.fsdecode(each.uri), kind=each.kind, wait_s=wait)
            counts = output.format_counts(output.count_changes(report)) or "no pictures"
            output.print_line(f"{each.name}: {counts}.")
            output.warn_list(
                f"{len(report.failed):,} could not be read:",
                [f"{display_path(file.path)}: {file.reason}" for file in report.failed],
                "'mmsearch status --failures' lists all.",
            )
