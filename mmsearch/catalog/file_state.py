"""What the catalog remembers of files and folders, such as a run compares with the disk.

A row of ``folders`` says that a run has found nothing left to do in a folder. Triggers remove all
rows of a root when any file of it changes, whoever changes it; a run writes them at its end.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from mmsearch.catalog import places
from mmsearch.catalog.tables import FileRow, FolderRow, RootRow, TextRow
from mmsearch.core.records import FailedFile, KnownFile, KnownFolder

BATCH = 10_000
"""Rows that are held beside what is made of them."""

_COLUMNS = (
    FileRow.path,
    FileRow.size,
    FileRow.mtime_ns,
    FileRow.checked_ns,
    FileRow.digest,
    FileRow.image_id,
    FileRow.error,
    FileRow.texts_key,
)


def known_files(
    connection: Connection, root_id: int, below: bytes, passed: Container[bytes]
) -> dict[bytes, KnownFile]:
    """The files of a root whose path is ``below`` or beneath it, but for those in some folders."""
    files = select(*_COLUMNS).where(*_within(FileRow.root_id, FileRow.path, root_id, below))
    known = {}
    for rows in connection.execute(files).partitions(BATCH):
        for row in rows:
            places.refuse_foreign_path(row[0])
            if row[0].rpartition(b"/")[0] not in passed:
                known[row[0]] = KnownFile(*row)
    return known


def files_in(connection: Connection, root_id: int, folder: bytes) -> dict[bytes, KnownFile]:
    """The files that lie in a folder itself."""
    prefix = folder + b"/" if folder else b""
    rest = func.substr(FileRow.path, len(prefix) + 1)
    files = select(*_COLUMNS).where(
        FileRow.root_id == root_id,
        FileRow.path >= prefix,
        *([FileRow.path < folder + b"0"] if folder else []),
        func.instr(rest, b"/") == 0,
    )
    return {row[0]: KnownFile(*row) for row in connection.execute(files)}


def captioned_files(
    connection: Connection, root_id: int, below: bytes, table: bytes
) -> frozenset[bytes]:
    """Return the paths of those `known_files` for which captions of a table are stored."""
    files = (
        select(FileRow.path)
        .join(TextRow, TextRow.file_id == FileRow.id)
        .where(TextRow.table_path == table, *_within(FileRow.root_id, FileRow.path, root_id, below))
    )
    return frozenset(connection.execute(files).scalars())


def count_files(connection: Connection, root_id: int, below: bytes) -> int:
    """How many `known_files` there are."""
    within = _within(FileRow.root_id, FileRow.path, root_id, below)
    count = select(func.count()).select_from(FileRow).where(*within)
    return int(connection.execute(count).scalar_one())


def count_found_files(connection: Connection) -> int:
    """Paths of pictures that can be found."""
    held = select(func.count()).select_from(FileRow).where(FileRow.image_id.is_not(None))
    return int(connection.execute(held).scalar_one())


def failed_files(connection: Connection) -> list[FailedFile]:
    """The files that could not be read, by path."""
    failed = (
        select(RootRow.path, FileRow.path, FileRow.error)
        .join(RootRow, RootRow.id == FileRow.root_id)
        .where(FileRow.image_id.is_(None))
    )
    found = [
        FailedFile(places.below(root, path), reason or "")
        for root, path, reason in connection.execute(failed)
    ]
    return sorted(found, key=lambda file: file.path)


def known_folders(connection: Connection, root_id: int, below: bytes) -> dict[bytes, KnownFolder]:
    """What runs left, by path."""
    within = _within(FolderRow.root_id, FolderRow.path, root_id, below)
    folders = select(FolderRow.path, FolderRow.digest, FolderRow.pictures, FolderRow.failed).where(
        *within
    )
    rows = connection.execute(folders)
    return {path: KnownFolder(digest, *counts) for path, digest, *counts in rows}


def remember_folders(
    connection: Connection, root_id: int, below: bytes, folders: Mapping[bytes, KnownFolder]
) -> None:
    """Put these in the place of all that is remembered of folders at ``below`` or beneath it."""
    within = _within(FolderRow.root_id, FolderRow.path, root_id, below)
    connection.execute(delete(FolderRow).where(*within))
    rows = [
        {
            "root_id": root_id,
            "path": path,
            "digest": folder.digest,
            "pictures": folder.pictures,
            "failed": folder.failed,
        }
        for path, folder in folders.items()
    ]
    if rows:
        connection.execute(insert(FolderRow), rows)


def _within(
    root: InstrumentedAttribute[int],
    path: InstrumentedAttribute[bytes],
    root_id: int,
    below: bytes,
) -> tuple[ColumnElement[Any], ...]:
    if not below:
        return (root == root_id,)
    # b"0" is the byte after b"/": the two bounds enclose what begins with below + b"/".
    beneath = (path >= below + b"/") & (path < below + b"0")
    return (root == root_id, or_(path == below, beneath))
