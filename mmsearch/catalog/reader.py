"""A catalog as queries see it: its newest generation, read without SQLAlchemy."""

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
    """Open the catalog of an index for queries, beside a writer or not.

    Args:
        path: The database.

    Raises:
        DamagedFileError: The file is no SQLite database, no catalog, or damaged.
        SchemaError: Its schema is newer or older than this code.
        StateError: It cannot be opened; a missing file is one such case.
    """
    reject_journal(path)
    pool = ReadPool(path, check_readable)
    with pool.read_transaction():
        pass
    return CatalogReader(pool)


class CatalogReader:
    """See `mmsearch.core.catalog.Reader`."""

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool

    def identity(self) -> Identity | None:
        """What the index is bound to; None before its first run."""
        with self._pool.read_transaction() as db:
            return read_identity(db)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the newest generation for reading; it stays as it is until it is closed."""
        with self._pool.read_transaction() as db:
            yield SqliteSnapshot(db)

    def close(self) -> None:
        """Free the file; the next snapshot opens it again."""
        self._pool.close()
