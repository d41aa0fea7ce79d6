"""``mmsearch duplicates``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.cli import output
from mmsearch.cli.options import AsJson, Home, IndexName, open_index
from mmsearch.core.duplicate_groups import DEFAULT_GROUPS, MAX_GROUPS

if TYPE_CHECKING:
    from mmsearch.core.duplicate_groups import DuplicateFile, DuplicateGroup, DuplicateGroups


def duplicates(
    name: IndexName = "default",
    home: Home = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="exact (one content in several places), near (resized, compressed again, cropped,"
            " edited) or burst (one view within minutes).",
            metavar="KIND",
            show_default="all",
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(help="Maximum number of groups.", metavar="N", min=1, max=MAX_GROUPS),
    ] = DEFAULT_GROUPS,
    cursor: Annotated[
        str | None,
        typer.Option(
            help="Go on after an earlier answer, with the cursor that it ends with.",
            metavar="CURSOR",
            show_default="none",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List duplicate pictures in groups, and suggest which file of each to keep.

    Nothing is deleted. The suggestion is the largest picture; of those, the original format of a
    camera, a file that names the camera, the largest file, the oldest one. Indexing finds
    duplicates: run 'mmsearch index' first if pictures are new.

    Example: mmsearch duplicates --kind exact
    Example: mmsearch duplicates --kind near --json
    """
    with open_index(name, home) as index:
        found = index.duplicates(kind, limit=limit, cursor=cursor)
    if as_json:
        output.print_json(found)
    elif sys.stdout.isatty():
        for line in _format_groups(found):
            output.print_line(line)
    else:
        output.print_tsv(_iter_rows(found))


def _iter_rows(found: DuplicateGroups) -> Iterator[tuple[object, ...]]:
    """Yield kind, number of the group, keep or "", path, width, height, bytes, date and reason."""
    for number, group in enumerate(found.groups, start=1):
        for file in group.hits:
            yield (
                group.kind,
                number,
                "keep" if file.keep else "",
                file.location,
                file.width,
                file.height,
                file.size_bytes,
                file.taken_at or "",
                file.reason,
            )


def _format_groups(found: DuplicateGroups) -> Iterator[str]:
    for group in found.groups:
        yield from _format_group(group)
        yield ""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in found.counts.items())
    yield f"Groups: {counts}. Nothing was deleted."
    if found.next_cursor is not None:
        yield f"Next groups: --cursor {found.next_cursor}"
    if found.unhashed:
        yield (
            f"{found.unhashed:,} pictures were indexed without their pixels or by an earlier"
            " version; only their exact copies are known. Run 'mmsearch index' on their folders to"
            " find the others."
        )


def _format_group(group: DuplicateGroup) -> Iterator[str]:
    freed = output.human_bytes(group.freed_bytes)
    yield f"{group.kind}: {len(group.hits)} files, {freed} without the one to keep"
    for file in group.hits:
        mark = f"keep ({file.reason})" if file.keep else ""
        yield f"  {mark:<24}  {file.location}  {_describe(file)}"


def _describe(file: DuplicateFile) -> str:
    size = f"{file.width} x {file.height} {file.format}, {output.human_bytes(file.size_bytes)}"
    return f"{size}, {file.taken_at.replace('T', ' ')}" if file.taken_at else size
