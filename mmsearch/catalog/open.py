"""Opening a catalog: it is made, compared with its seal, and brought to the newest schema."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mmsearch.catalog import checksum, schema
from mmsearch.catalog.connection import reject_journal
from mmsearch.catalog.sqlalchemy_engine import (
    as_read_connection,
    open_engine,
    open_pinned_engine,
    read_transaction,
)
from mmsearch.catalog.sqlite import SqliteCatalog
from mmsearch.catalog.wal import count_unreadable_commits
from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import DamagedFileError, DiskFullError
from mmsearch.core.files import create_file
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, fsync_folder
from mmsearch.storage.failpoints import FailPoint, hit_failpoint


def open_catalog(path: Path, *, create: bool = False, read_only: bool = False) -> Catalog:
    """Open the catalog of an index.

    A writer (``read_only=False``) must hold the index's lock; it brings an older schema to the
    newest one. A reader needs no lock and changes nothing: it refuses an older schema. It works
    beside a writer, and in a folder that cannot be written.

    Args:
        path: The database.
        create: Make it if it is missing; only for a writer.
        read_only: Open it for reading only.

    Raises:
        DamagedFileError: The file is no SQLite database, no catalog, or damaged.
        SchemaError: Its schema is newer than this code, or older and ``read_only`` is set.
        StateError: It cannot be opened; a missing file is one such case.
    """
    if create and read_only:
        raise ValueError("a catalog that is only read cannot be created")
    if create and not path.exists():
        _create_catalog(path)
    reject_journal(path)
    previous = None if read_only else _verify_and_mark_dirty(path)
    engine = open_engine(path, create=False, read_only=read_only)
    try:
        if read_only:
            with read_transaction(engine) as connection:
                schema.check_readable(as_read_connection(connection), path)
        else:
            schema.migrate(engine, path)
            with read_transaction(engine) as connection:
                schema.check_file_names(as_read_connection(connection))
    except BaseException:
        engine.dispose()
        if previous is not None and previous.sha256 is not None:
            checksum.mark_clean(path, previous.roots)
        raise
    return SqliteCatalog(engine, None if read_only else path)


def open_pinned_catalog(path: Path) -> Catalog:
    """Open the newest state of a catalog for reading; it stays as it is until it is closed.

    Writers go on beside it. Nothing is written, and no temporary file is made.

    Args:
        path: The database.

    Raises:
        DamagedFileError: The file is no SQLite database, no catalog, or damaged.
        SchemaError: Its schema is newer than this code, or older.
        StateError: It cannot be opened.
    """
    reject_journal(path)
    engine = open_pinned_engine(path)
    try:
        with read_transaction(engine) as connection:
            schema.check_readable(as_read_connection(connection), path)
    except BaseException:
        engine.dispose()
        raise
    return SqliteCatalog(engine)


def _verify_and_mark_dirty(path: Path) -> checksum.CatalogChecksum | None:
    """Compare a catalog with its seal and open that; the seal as it was.

    Raises:
        DamagedFileError: It is not what the last writer left.
    """
    if not checksum.verify_checksum(path) and count_unreadable_commits(path) > 1:
        raise DamagedFileError(
            f"{path}-wal is damaged: commits in it cannot be read.",
            "Run 'mmsearch repair': it makes the catalog again without encoding.",
        )
    previous = checksum.read_checksum(path)
    checksum.mark_dirty(path, previous.roots if previous else ())
    return previous


def _create_catalog(path: Path) -> None:
    """Make an empty catalog under another name first: a reader meets a whole one or none."""
    temporary_path = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    _remove_database(temporary_path)
    try:
        # SQLite would let everybody read what it creates; the files beside it take its permissions.
        create_file(temporary_path).close()
        engine = open_engine(temporary_path, create=False, read_only=False)
        try:
            schema.migrate(engine, temporary_path)
        finally:
            # The last connection to close moves everything from the -wal file into the database.
            engine.dispose()
        _check_complete(temporary_path, path)
    except BaseException:
        with suppress(OSError):
            _remove_database(temporary_path)
        raise
    hit_failpoint(FailPoint.CATALOG_MADE)
    temporary_path.replace(path)
    checksum.checksum_path(path).unlink(missing_ok=True)
    hit_failpoint(FailPoint.CATALOG_NAMED)
    fsync_folder(path.parent)


def _check_complete(temporary_path: Path, path: Path) -> None:
    """On a full disk the -wal file stays behind: the database beside it is not whole."""
    if temporary_path.with_name(f"{temporary_path.name}-wal").exists():
        raise DiskFullError(
            f"{path} could not be written whole: its disk is full, or it fails.",
            "Free some space, look at the system's log, and run again.",
        )


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
