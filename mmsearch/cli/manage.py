"""``mmsearch status``, ``list``, ``remove`` and ``roots``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.options import AsJson, Home, IndexName, WaitSeconds, open_index
from mmsearch.core.display import display_path
from mmsearch.core.errors import StateError

if TYPE_CHECKING:
    from mmsearch.core.requests import IndexStatus
    from mmsearch.core.types import FusionSpec

roots_app = typer.Typer(help="Show the folders that are indexed, or say where one lies now.")


def status(
    name: IndexName = "default",
    home: Home = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="List the files that could not be read.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an index holds.

    Example: mmsearch status --failures
    """
    with open_index(name, home) as index:
        found = index.status()
    if as_json:
        output.print_json(found)
    elif failures:
        output.print_table(
            "",
            ["file", "reason"],
            [(display_path(file.path), file.reason) for file in found.failures],
        )
    else:
        for label, value in _lines(found):
            output.print_line(f"{label:<14}{value}")


def _lines(found: IndexStatus) -> Iterator[tuple[str, str]]:
    yield "index", f"{found.name} in {found.folder}"
    yield "pictures", f"{found.pictures:,} in {found.files:,} files"
    if found.failures:
        hint = "'mmsearch status --failures' lists them"
        yield "not readable", f"{len(found.failures):,} files; {hint}"
    for root in found.roots:
        yield "root", f"{root.name}: {display_path(root.path)}"
    if found.identity is not None:
        encoder = found.identity.encoder
        yield "encoder", f"{encoder.name}, {encoder.dim} columns, fingerprint {encoder.fingerprint}"
        yield "fusion", _fusion(found.identity.fusion)
        yield "texts", ", ".join(found.identity.texts) or "none"
        yield "vector index", _vector_index(found)
    sizes = ", ".join(
        f"{part} {output.human_bytes(size)}" for part, size in found.bytes_by_part.items()
    )
    yield "on disk", f"{output.human_bytes(sum(found.bytes_by_part.values()))} ({sizes})"
    yield "generation", str(found.generation)
    if found.last_run is not None:
        run = found.last_run
        counts = ", ".join(f"{count:,} {what}" for what, count in run.counts.items() if count)
        if run.finished_at is None:
            yield "last run", f"{run.started_at}, still running or killed"
        else:
            yield "last run", f"{run.started_at}, {run.outcome}: {counts or 'nothing to do'}"


def _fusion(spec: FusionSpec) -> str:
    if spec.name == "image":
        return "image: texts are searched as words, beside the vectors"
    kinds = "".join(f", {kind} {weight:g}" for kind, weight in sorted(spec.kind_weights.items()))
    return f"{spec.name}, text weight {spec.text_weight:g}{kinds}"


def _vector_index(found: IndexStatus) -> str:
    if found.built is None:
        return f"none built yet; {found.waiting:,} vectors are compared one by one"
    reason = found.built.settings.get("reason", "")
    line = f"{found.built.spec_name}, {found.built.rows:,} vectors, {reason}"
    return line + (f"; {found.waiting:,} newer ones beside it" if found.waiting else "")


def list_all(home: Home = None, as_json: AsJson = False) -> None:
    """List the indexes.

    Example: mmsearch list
    """
    unreadable: list[str] = []
    found = api.list_indexes(
        home, on_error=lambda name, error: unreadable.append(f"{name}: {error}")
    )
    _print_indexes(found, as_json=as_json, all_were_read=not unreadable)
    output.warn_list(
        f"Could not be read: {len(unreadable):,}", unreadable, "'mmsearch check' says why."
    )
    if unreadable:
        raise typer.Exit(1)


def _print_indexes(found: list[IndexStatus], *, as_json: bool, all_were_read: bool) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "name": i.name,
                    "folder": i.folder,
                    "pictures": i.pictures,
                    "encoder": i.identity.encoder.name if i.identity else None,
                }
                for i in found
            ]
        )
        return
    if not found:
        if all_were_read:
            output.warn("There is no index yet; run: mmsearch index FOLDER")
        return
    rows = [
        (
            index.name,
            f"{index.pictures:,}",
            index.identity.encoder.name if index.identity else "-",
            output.human_bytes(sum(index.bytes_by_part.values())),
            index.last_run.started_at if index.last_run else "-",
        )
        for index in found
    ]
    output.print_table("", ["name", "pictures>", "encoder", "on disk>", "last run"], rows)


def remove(
    name: Annotated[str, typer.Argument(help="Name of the index.", show_default=False)],
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete an index. The pictures themselves stay.

    Example: mmsearch remove holiday --yes
    """
    with open_index(name, home) as index:
        # The rest of one whose removal has failed is deleted without asking again.
        if index.exists() and not yes:
            held = ""
            # An index that cannot be read can be deleted.
            with suppress(StateError):
                held = f" of {index.status().pictures:,} pictures"
            question = f"Delete index {name!r}{held} in {index.folder}?"
            typer.confirm(display_path(question), abort=True)
        index.remove()
    output.warn(f"Index {name!r} is deleted; the pictures are untouched.")


@roots_app.callback(invoke_without_command=True)
def roots(
    context: typer.Context,
    name: IndexName = "default",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show the folders that are indexed.

    Example: mmsearch roots
    """
    if context.invoked_subcommand is not None:
        return
    with open_index(name, home) as index:
        found = index.roots()
    if as_json:
        output.print_json(found)
    else:
        output.print_table(
            "", ["name", "folder"], [(root.name, display_path(root.path)) for root in found]
        )


@roots_app.command("set")
def set_root(
    root: Annotated[str, typer.Argument(help="Name of the root.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where it lies now.", show_default=False)],
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
) -> None:
    """Say where a folder lies now; nothing is encoded again.

    Example: mmsearch roots set photos /mnt/new/photos
    """
    with open_index(name, home) as index:
        moved = index.set_root(root, folder, wait_s=wait)
    output.warn(f"Root {moved.name!r} is now {display_path(moved.path)}.")
