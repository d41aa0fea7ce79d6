"""Writing of sources: roots, their names and choices, roots inside each other, and moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, count
from typing import Any

from sqlalchemy import Connection, delete, insert, update

from mmsearch.catalog.generations import add_generation, insert_row
from mmsearch.catalog.metadata import merge_changed_metadata
from mmsearch.catalog.place_texts import update_places
from mmsearch.catalog.rows import (
    LAST_RUN_KEY,
    read_roots,
    read_sources,
    relative_to,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import (
    ASSETS,
    PARTS,
    SETTINGS,
    SOURCES,
)
from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError, UnknownNameError, UsageError
from mmsearch.core.folder_choices import FolderChoices, without_describe
from mmsearch.core.records import (
    FOLDER_KIND,
    Root,
    SourceRecord,
)


def ensure_root(connection: Connection, path: bytes, name: str | None = None) -> tuple[Root, bytes]:
    """Return the root that covers a folder, and the folder's path relative to it.

    If no root covers the folder, add it as a root, which absorbs the roots inside it.
    """
    path = _strip_trailing_slash(path)
    roots = read_roots(as_read_connection(connection))
    for root in roots:
        relative_path = relative_to(root.path, path)
        if relative_path is not None:
            return root, relative_path
    names = {source.name for source in read_sources(as_read_connection(connection))}
    name = _check_name(name, names) or _unique_name(path, names)
    values = {"kind": FOLDER_KIND, "name": name, "uri": path, "choices": {}}
    root_id = insert_row(connection, insert(SOURCES).values(values))
    new_root = Root(root_id, name, path)
    if _absorb_roots(connection, new_root, roots):
        add_generation(connection)
    return new_root, b""


def ensure_source(
    connection: Connection, kind: str, uri: bytes, choices: Mapping[str, Any], name: str | None
) -> tuple[SourceRecord, bool]:
    """Return the source with a URI, with these choices, and True if it is new.

    See `SqlWriter.ensure_source`.
    """
    sources = read_sources(as_read_connection(connection))
    for source in sources:
        if source.uri != uri:
            continue
        if source.kind != kind:
            raise SourceError(
                f"{display_path(uri)} is already indexed as {source.kind!r}.",
                f"Leave out the kind, or remove the source {source.name!r} first.",
            )
        if source.choices != choices:
            set_choices(connection, source.id, choices)
        return replace(source, choices=choices), False
    names = {source.name for source in sources}
    new_name = _check_name(name, names) or _unique_name(_strip_trailing_slash(uri), names)
    values = {"kind": kind, "name": new_name, "uri": uri, "choices": dict(choices)}
    source_id = insert_row(connection, insert(SOURCES).values(values))
    return SourceRecord(source_id, kind, new_name, uri, choices), True


def remove_source(connection: Connection, source_id: int) -> int:
    """Remove a source and its assets; return the number of assets that had a picture."""
    db = as_read_connection(connection)
    statement = "SELECT count(content_id) FROM assets WHERE source_id = ?"
    ((removed,),) = db.query(statement, [source_id])
    connection.execute(delete(ASSETS).where(ASSETS.c.source_id == source_id))
    connection.execute(delete(SOURCES).where(SOURCES.c.id == source_id))
    last_run = SETTINGS.c.key == f"{LAST_RUN_KEY}{source_id}"
    connection.execute(delete(SETTINGS).where(last_run))
    update_places(connection, merge_changed_metadata(connection))
    add_generation(connection)
    return int(removed)


def move_root(connection: Connection, name: str, path: bytes) -> Root:
    """Point a root at another folder; see `SqlWriter.move_root`."""
    path = _strip_trailing_slash(path)
    roots = {root.name: root for root in read_roots(as_read_connection(connection))}
    if name not in roots:
        known_names = ", ".join(roots) or "none"
        raise UnknownNameError(f"There is no root named {name!r}.", f"Known: {known_names}.")
    old = roots.pop(name)
    for other in roots.values():
        if relative_to(other.path, path) is not None:
            raise SourceError(
                f"{display_path(path)} already belongs to the root {other.name!r}"
                f" ({display_path(other.path)}).",
                f"Choose a folder outside it, or move {other.name!r} first.",
            )
    moved = Root(old.id, name, path)
    has_absorbed = _absorb_roots(connection, moved, roots.values())
    if has_absorbed or moved != old:
        _move_choices(connection, old, path)
        _move_table_paths(connection, old.path, path)
        add_generation(connection)
    return moved


def set_choices(connection: Connection, source_id: int, choices: Mapping[str, Any]) -> None:
    """Replace the choices of a source, so that the next run looks through all of it.

    Other texts that models make change nothing about its files.
    """
    sources = read_sources(as_read_connection(connection))
    former = next((source.choices for source in sources if source.id == source_id), {})
    statement = update(SOURCES).where(SOURCES.c.id == source_id)
    connection.execute(statement.values(choices=dict(choices)))
    if without_describe(former) == without_describe(choices):
        return
    # Other choices may give other texts, and make items readable.
    connection.execute(delete(PARTS).where(PARTS.c.source_id == source_id))
    is_failed = (ASSETS.c.source_id == source_id) & ASSETS.c.content_id.is_(None)
    connection.execute(update(ASSETS).where(is_failed).values(stamp=None))


def _move_choices(connection: Connection, root: Root, path: bytes) -> None:
    """Set the path of a root, also where its choices name it."""
    sources = read_sources(as_read_connection(connection))
    (choices,) = (source.choices for source in sources if source.id == root.id)
    moved = FolderChoices.from_json(choices).move(root.path, path).to_json()
    statement = update(SOURCES).where(SOURCES.c.id == root.id)
    connection.execute(statement.values(uri=path, choices=moved))


def _move_table_paths(connection: Connection, old_folder: bytes, new_folder: bytes) -> None:
    """Update the stored paths of the caption tables below a moved root."""
    # b"0" is the byte after b"/": the bounds enclose all paths that start with old_folder + b"/".
    as_read_connection(connection).query(
        "UPDATE texts SET table_path = CAST(:new || substr(table_path, :start) AS BLOB)"
        " WHERE table_path > :first AND table_path < :end",
        {
            "new": new_folder,
            "start": len(old_folder) + 1,
            "first": old_folder + b"/",
            "end": old_folder + b"0",
        },
    )


def _strip_trailing_slash(path: bytes) -> bytes:
    """Return a path without trailing slashes."""
    return path.rstrip(b"/") or b"/"


def _check_name(name: str | None, used_names: set[str]) -> str | None:
    """Return the name of a new source.

    Raises:
        UsageError: Another source has it.
    """
    if name in used_names:
        raise UsageError(f"There is a source named {name!r} already.", "Choose another name.")
    return name


def _unique_name(path: bytes, used_names: set[str]) -> str:
    """Return the folder's name, with a number appended if another root has that name."""
    base_name = display_path(path.rpartition(b"/")[2]) or "root"
    candidates = chain([base_name], (f"{base_name}-{number}" for number in count(2)))
    return next(name for name in candidates if name not in used_names)


def _absorb_roots(connection: Connection, outer: Root, others: Iterable[Root]) -> bool:
    """Move the files of roots inside ``outer`` to it and delete those roots.

    Return True if there was such a root.
    """
    has_absorbed = False
    choices = {
        source.id: FolderChoices.from_json(source.choices)
        for source in read_sources(as_read_connection(connection))
    }
    for inner in others:
        relative_path = relative_to(outer.path, inner.path)
        if relative_path is None:
            continue
        choices[outer.id] = choices[outer.id].absorb(relative_path, choices[inner.id])
        _absorb_files(connection, outer, inner, relative_path + b"/")
        connection.execute(delete(SOURCES).where(SOURCES.c.id == inner.id))
        has_absorbed = True
    if has_absorbed:
        statement = update(SOURCES).where(SOURCES.c.id == outer.id)
        connection.execute(statement.values(choices=choices[outer.id].to_json()))
    return has_absorbed


def _absorb_files(connection: Connection, outer: Root, inner: Root, prefix: bytes) -> None:
    """Move files from an inner root to an outer one; of duplicate paths keep the last read."""
    # SQLite's || returns text; the cast turns it back into the same bytes.
    for statement in (
        "DELETE FROM assets WHERE id IN"
        " (SELECT moved.id FROM assets AS moved JOIN assets AS present"
        " ON present.source_id = :outer AND present.key = CAST(:prefix || moved.key AS BLOB)"
        " WHERE moved.source_id = :inner AND present.checked_ns >= moved.checked_ns)",
        "DELETE FROM assets WHERE source_id = :outer AND key IN"
        " (SELECT CAST(:prefix || key AS BLOB) FROM assets WHERE source_id = :inner)",
        "UPDATE assets SET source_id = :outer, key = CAST(:prefix || key AS BLOB)"
        " WHERE source_id = :inner",
    ):
        as_read_connection(connection).query(
            statement, {"outer": outer.id, "inner": inner.id, "prefix": prefix}
        )
