"""Stored state of files and folders, which a run compares with the disk.

A row of ``folders`` records that a run has found nothing left to do in a folder. A run writes
these rows at its end. Triggers remove all rows of a root when a row of any of its files changes.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from mmsearch.catalog import paths
from mmsearch.catalog.tables import FileRow, FolderRow, RootRow, TextRow
from mmsearch.core.records import FailedFile, FileRecord, FolderRecord

FETCH_ROWS = 10_000
"""Rows fetched from the database at a time."""

_FILE_COLUMNS = (
    FileRow.path,
    FileRow.size,
    FileRow.mtime_ns,
    FileRow.checked_ns,
    FileRow.digest,
    FileRow.image_id,
    FileRow.error,
    FileRow.texts_key,
)


def list_files_under(
    connection: Connection, root_id: int, subpath: bytes, skip_folders: Container[bytes]
) -> dict[bytes, FileRecord]:
    """Return the files of a root at or under ``subpath``, except those in ``skip_folders``."""
    statement = select(*_FILE_COLUMNS).where(
        *_subtree_conditions(FileRow.root_id, FileRow.path, root_id, subpath)
    )
    files_by_path = {}
    for rows in connection.execute(statement).partitions(FETCH_ROWS):
        for row in rows:
            paths.check_relative_path(row[0])
            if row[0].rpartition(b"/")[0] not in skip_folders:
                files_by_path[row[0]] = FileRecord(*row)
    return files_by_path


def list_files_in(connection: Connection, root_id: int, folder: bytes) -> dict[bytes, FileRecord]:
    """Return the files directly in a folder, not in its subfolders."""
    prefix = folder + b"/" if folder else b""
    relative_path = func.substr(FileRow.path, len(prefix) + 1)
    statement = select(*_FILE_COLUMNS).where(
        FileRow.root_id == root_id,
        FileRow.path >= prefix,
        *([FileRow.path < folder + b"0"] if folder else []),
        func.instr(relative_path, b"/") == 0,
    )
    return {row[0]: FileRecord(*row) for row in connection.execute(statement)}


def list_captioned_files(
    connection: Connection, root_id: int, subpath: bytes, table: bytes
) -> frozenset[bytes]:
    """Return the paths of `list_files_under` that have stored captions from a table."""
    statement = (
        select(FileRow.path)
        .join(TextRow, TextRow.file_id == FileRow.id)
        .where(
            TextRow.table_path == table,
            *_subtree_conditions(FileRow.root_id, FileRow.path, root_id, subpath),
        )
    )
    return frozenset(connection.execute(statement).scalars())


def count_files_under(connection: Connection, root_id: int, subpath: bytes) -> int:
    """Return the number of files of a root at or under ``subpath``."""
    conditions = _subtree_conditions(FileRow.root_id, FileRow.path, root_id, subpath)
    count = select(func.count()).select_from(FileRow).where(*conditions)
    return int(connection.execute(count).scalar_one())


def count_indexed_files(connection: Connection) -> int:
    """Return the number of files whose picture is indexed."""
    statement = select(func.count()).select_from(FileRow).where(FileRow.image_id.is_not(None))
    return int(connection.execute(statement).scalar_one())


def failed_files(connection: Connection) -> list[FailedFile]:
    """Return the files that could not be read, sorted by path."""
    statement = (
        select(RootRow.path, FileRow.path, FileRow.error)
        .join(RootRow, RootRow.id == FileRow.root_id)
        .where(FileRow.image_id.is_(None))
    )
    failures = [
        FailedFile(paths.join_path(root, path), error or "")
        for root, path, error in connection.execute(statement)
    ]
    return sorted(failures, key=lambda file: file.path)


def load_folder_states(
    connection: Connection, root_id: int, subpath: bytes
) -> dict[bytes, FolderRecord]:
    """Return the folder states that runs stored at or under ``subpath``, by path."""
    conditions = _subtree_conditions(FolderRow.root_id, FolderRow.path, root_id, subpath)
    statement = select(
        FolderRow.path, FolderRow.digest, FolderRow.pictures, FolderRow.failed
    ).where(*conditions)
    rows = connection.execute(statement)
    return {path: FolderRecord(digest, *counts) for path, digest, *counts in rows}


def save_folder_states(
    connection: Connection, root_id: int, subpath: bytes, folders: Mapping[bytes, FolderRecord]
) -> None:
    """Replace the stored states of all folders at or under ``subpath``."""
    conditions = _subtree_conditions(FolderRow.root_id, FolderRow.path, root_id, subpath)
    connection.execute(delete(FolderRow).where(*conditions))
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


def _subtree_conditions(
    root_column: InstrumentedAttribute[int],
    path_column: InstrumentedAttribute[bytes],
    root_id: int,
    subpath: bytes,
) -> tuple[ColumnElement[Any], ...]:
    if not subpath:
        return (root_column == root_id,)
    # b"0" is the byte after b"/": the bounds enclose all paths that start with subpath + b"/".
    descendants = (path_column >= subpath + b"/") & (path_column < subpath + b"0")
    return (root_column == root_id, or_(path_column == subpath, descendants))
