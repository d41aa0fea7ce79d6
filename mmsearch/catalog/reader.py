"""Read access to a catalog's newest generation for queries, without SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsearch.catalog.connection import ReadPool, reject_journal
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.schema import check_readable
from mmsearch.catalog.snapshot import SqliteSnapshot
from mmsearch.core.catalog import Snapshot
from mmsearch.core.records import Identity


def open_reader(path: Path) -> CatalogReader:
    """Open the catalog of an index for queries; a writer may work at the same time.

    Args:
        path: The database.

    Raises:
        DamagedFileError: The file is not an SQLite database, not a catalog, or damaged.
        SchemaError: Its schema is newer or older than this code's.
        StateError: The file cannot be opened, for example because it is missing.
    """
    reject_journal(path)
    pool = ReadPool(path, check_readable)
    with pool.read_transaction():
        pass
    return CatalogReader(pool)


class CatalogReader:
    """Implementation of `mmsearch.core.catalog.Reader` with Python's sqlite3."""

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool

    def identity(self) -> Identity | None:
        """Return the identity of the index; None before its first run."""
        with self._pool.read_transaction() as db:
            return read_identity(db)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the newest generation for reading; it does not change until it is closed."""
        with self._pool.read_transaction() as db:
            yield SqliteSnapshot(db)

    def close(self) -> None:
        """Close the idle connection; the next snapshot opens a new one."""
        self._pool.close()
