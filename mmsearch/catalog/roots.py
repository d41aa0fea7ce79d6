"""The folders that are indexed. No root lies inside another, so a path has one place only."""

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

from mmsearch.catalog.generations import add_generation, inserted_id
from mmsearch.catalog.places import refuse_foreign_root, rest_below
from mmsearch.catalog.tables import FileRow, RootRow, TextRow
from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError, UnknownNameError
from mmsearch.core.records import Root


def read_roots(connection: Connection) -> list[Root]:
    """All roots, oldest first.

    Raises:
        DamagedFileError: One is no absolute path.
    """
    rows = connection.execute(select(RootRow.id, RootRow.name, RootRow.path).order_by(RootRow.id))
    roots = [Root(*row) for row in rows]
    for root in roots:
        refuse_foreign_root(root.path)
    return roots


def ensure_root(connection: Connection, path: bytes) -> tuple[Root, bytes]:
    """The root that covers a folder, made if there is none, and the rest of the path below it."""
    path = _plain(path)
    roots = read_roots(connection)
    for root in roots:
        rest = rest_below(root.path, path)
        if rest is not None:
            return root, rest
    name = _free_name(path, {root.name for root in roots})
    new = Root(inserted_id(connection, insert(RootRow).values(name=name, path=path)), name, path)
    if _take_over(connection, new, roots):
        add_generation(connection)
    return new, b""


def move_root(connection: Connection, name: str, path: bytes) -> Root:
    """Point a root at another folder; roots that lie inside that folder are taken over.

    Raises:
        UnknownNameError: There is no root of that name.
        SourceError: Another root covers the folder already.
    """
    path = _plain(path)
    roots = {root.name: root for root in read_roots(connection)}
    if name not in roots:
        known = ", ".join(roots) or "none"
        raise UnknownNameError(f"There is no root named {name!r}.", f"Known: {known}.")
    old = roots.pop(name)
    for other in roots.values():
        if rest_below(other.path, path) is not None:
            raise SourceError(
                f"{display_path(path)} belongs to the root {other.name!r}"
                f" ({display_path(other.path)}) already.",
                f"Choose a folder outside of it, or move {other.name!r} first.",
            )
    moved = Root(old.id, name, path)
    taken = _take_over(connection, moved, roots.values())
    if taken or moved != old:
        connection.execute(update(RootRow).where(RootRow.id == old.id).values(path=path))
        _move_tables(connection, old.path, path)
        add_generation(connection)
    return moved


def _move_tables(connection: Connection, old: bytes, new: bytes) -> None:
    """Let the tables of captions that lie below a moved root move with it."""
    # b"0" is the byte after b"/": the two bounds enclose what begins with old + b"/".
    inside = (TextRow.table_path > old + b"/") & (TextRow.table_path < old + b"0")
    rest = func.substr(TextRow.table_path, len(old) + 1)
    moved = cast(literal(new, LargeBinary).concat(rest), LargeBinary)
    connection.execute(update(TextRow).where(inside).values(table_path=moved))


def _plain(path: bytes) -> bytes:
    """Without the slash that a folder may end in."""
    return path.rstrip(b"/") or b"/"


def _free_name(path: bytes, taken: set[str]) -> str:
    """The folder's own name, with a number behind it if another root has it."""
    base = display_path(path.rpartition(b"/")[2]) or "root"
    candidates = chain([base], (f"{base}-{number}" for number in count(2)))
    return next(name for name in candidates if name not in taken)


def _take_over(connection: Connection, outer: Root, others: Iterable[Root]) -> bool:
    """Make the files of roots that lie inside ``outer`` its own, and forget those roots."""
    taken = False
    for inner in others:
        rest = rest_below(outer.path, inner.path)
        if rest is None:
            continue
        _take_files(connection, outer, inner, rest + b"/")
        connection.execute(delete(RootRow).where(RootRow.id == inner.id))
        taken = True
    return taken


def _take_files(connection: Connection, outer: Root, inner: Root, prefix: bytes) -> None:
    """Where both roots know a path, what was read last stays."""
    theirs, ours = aliased(FileRow), aliased(FileRow)

    def path_in_outer(path: InstrumentedAttribute[bytes]) -> ColumnElement[bytes]:
        # In SQLite || makes text of its bytes; the cast gives them back as they are.
        return cast(literal(prefix, LargeBinary).concat(path), LargeBinary)

    stale = (
        select(theirs.id)
        .join(ours, ours.path == path_in_outer(theirs.path))
        .where(
            theirs.root_id == inner.id,
            ours.root_id == outer.id,
            ours.checked_ns >= theirs.checked_ns,
        )
    )
    connection.execute(delete(FileRow).where(FileRow.id.in_(stale)))
    replaced = select(path_in_outer(theirs.path)).where(theirs.root_id == inner.id)
    connection.execute(
        delete(FileRow).where(FileRow.root_id == outer.id, FileRow.path.in_(replaced))
    )
    connection.execute(
        update(FileRow)
        .where(FileRow.root_id == inner.id)
        .values(root_id=outer.id, path=path_in_outer(FileRow.path))
    )
