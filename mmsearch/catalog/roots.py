"""The indexed folders (roots). No root lies inside another, so each path belongs to one root."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, aliased

from mmsearch.catalog.generations import add_generation, insert_row
from mmsearch.catalog.paths import check_root_path, relative_to
from mmsearch.catalog.tables import FileRow, RootRow, TextRow
from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError, UnknownNameError
from mmsearch.core.records import Root


def read_roots(connection: Connection) -> list[Root]:
    """Return all roots, oldest first.

    Raises:
        DamagedFileError: The path of a root is not an absolute path.
    """
    rows = connection.execute(select(RootRow.id, RootRow.name, RootRow.path).order_by(RootRow.id))
    roots = [Root(*row) for row in rows]
    for root in roots:
        check_root_path(root.path)
    return roots


def ensure_root(connection: Connection, path: bytes) -> tuple[Root, bytes]:
    """Return the root that covers a folder, and the folder's path relative to it.

    If no root covers the folder, add it as a root, which absorbs the roots inside it.
    """
    path = _strip_trailing_slash(path)
    roots = read_roots(connection)
    for root in roots:
        relative_path = relative_to(root.path, path)
        if relative_path is not None:
            return root, relative_path
    name = _unique_name(path, {root.name for root in roots})
    new_root = Root(
        insert_row(connection, insert(RootRow).values(name=name, path=path)), name, path
    )
    if _absorb_roots(connection, new_root, roots):
        add_generation(connection)
    return new_root, b""


def move_root(connection: Connection, name: str, path: bytes) -> Root:
    """Point a root at another folder and absorb the roots inside that folder.

    Raises:
        UnknownNameError: No root has that name.
        SourceError: Another root already covers the folder.
    """
    path = _strip_trailing_slash(path)
    roots = {root.name: root for root in read_roots(connection)}
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
        connection.execute(update(RootRow).where(RootRow.id == old.id).values(path=path))
        _move_table_paths(connection, old.path, path)
        add_generation(connection)
    return moved


def _move_table_paths(connection: Connection, old_folder: bytes, new_folder: bytes) -> None:
    """Update the stored paths of the caption tables below a moved root."""
    # b"0" is the byte after b"/": the bounds enclose all paths that start with old_folder + b"/".
    is_inside = (TextRow.table_path > old_folder + b"/") & (TextRow.table_path < old_folder + b"0")
    relative_path = func.substr(TextRow.table_path, len(old_folder) + 1)
    new_path = cast(literal(new_folder, LargeBinary).concat(relative_path), LargeBinary)
    connection.execute(update(TextRow).where(is_inside).values(table_path=new_path))


def _strip_trailing_slash(path: bytes) -> bytes:
    """Return a path without trailing slashes."""
    return path.rstrip(b"/") or b"/"


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
    for inner in others:
        relative_path = relative_to(outer.path, inner.path)
        if relative_path is None:
            continue
        _absorb_files(connection, outer, inner, relative_path + b"/")
        connection.execute(delete(RootRow).where(RootRow.id == inner.id))
        has_absorbed = True
    return has_absorbed


def _absorb_files(connection: Connection, outer: Root, inner: Root, prefix: bytes) -> None:
    """Move files from an inner root to an outer one; of duplicate paths keep the last read."""
    inner_file, outer_file = aliased(FileRow), aliased(FileRow)

    def path_in_outer(path: InstrumentedAttribute[bytes]) -> ColumnElement[bytes]:
        # SQLite's || returns text; the cast turns it back into the same bytes.
        return cast(literal(prefix, LargeBinary).concat(path), LargeBinary)

    stale = (
        select(inner_file.id)
        .join(outer_file, outer_file.path == path_in_outer(inner_file.path))
        .where(
            inner_file.root_id == inner.id,
            outer_file.root_id == outer.id,
            outer_file.checked_ns >= inner_file.checked_ns,
        )
    )
    connection.execute(delete(FileRow).where(FileRow.id.in_(stale)))
    new_paths = select(path_in_outer(inner_file.path)).where(inner_file.root_id == inner.id)
    connection.execute(
        delete(FileRow).where(FileRow.root_id == outer.id, FileRow.path.in_(new_paths))
    )
    connection.execute(
        update(FileRow)
        .where(FileRow.root_id == inner.id)
        .values(root_id=outer.id, path=path_in_outer(FileRow.path))
    )
