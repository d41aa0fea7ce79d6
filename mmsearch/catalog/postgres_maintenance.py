"""Writing and maintenance of a catalog in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from mmsearch.catalog import bulk
from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S
from mmsearch.catalog.database import Database
from mmsearch.catalog.maintenance import SqlMaintenance
from mmsearch.catalog.postgres import (
    PinnedPostgres,
    PostgresPlace,
    PostgresPool,
    connect,
    quoted,
)
from mmsearch.catalog.postgres_engine import open_postgres_engine
from mmsearch.catalog.postgres_lock import RunLock
from mmsearch.catalog.postgres_schema import check_readable, migrate
from mmsearch.catalog.postgres_stems import COUNT_EVERY, count_stems, recount_stems
from mmsearch.catalog.reader import SqlReader
from mmsearch.catalog.row_writes import reserve_ids
from mmsearch.catalog.rows import column_values, find_items, scalar
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, write_transaction
from mmsearch.catalog.tables import METADATA
from mmsearch.catalog.texts import clear_stale
from mmsearch.core.errors import StateError
from mmsearch.core.records import EncodedPicture, SalvageResult, Segment, ShardCommit

_ANALYZE_EVERY = 1_000
"""Number of assets that a writer adds before it looks at which tables have grown."""

_GROWN_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r'"
    " AND relnamespace = CAST(CAST(current_schema() AS TEXT) AS regnamespace)"
    " AND pg_relation_size(oid) / CAST(current_setting('block_size') AS BIGINT)"
    " > 2 * greatest(relpages, 4)"
)


class PostgresMaintenance(SqlMaintenance):
    """Implementation of `mmsearch.core.catalog_maintenance.CatalogMaintenance`; thread-safe.

    Args:
        place: The catalog, with the newest schema.
        run: The lock of a run that may have others beside it; None if it runs alone.
    """

    def __init__(self, place: PostgresPlace, run: RunLock | None = None) -> None:
        pool = PostgresPool(place, timeout_s=MAINTENANCE_TIMEOUT_S)
        check_locks = None if run is None else run.check
        super().__init__(pool, open_postgres_engine(place, check_locks))
        self._place = place
        self._added_assets = self._added_texts = 0
        self._run = run

    @property
    def is_shared(self) -> bool:
        """True: also beside a run that has the index alone, a program may commit by itself."""
        return True

    def alone(self) -> AbstractContextManager[bool]:
        """Keep other runs from starting for a moment; yield False if one is active."""
        return nullcontext(True) if self._run is None else self._run.alone()

    def one_at_a_time(
        self, work: str, on_wait: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Wait until no other run does the same work."""
        return nullcontext() if self._run is None else self._run.one_at_a_time(work, on_wait)

    def _prepare(self, db: Database, shard: ShardCommit) -> ShardCommit:
        """Return a shard without what other writers have committed since it was begun.

        Rows of the segment whose content is known by now are not used.
        """
        items = [*shard.pictures, *shard.text_items]
        known = find_items(db, (item.digest for item in items))
        ids = {item.id for item in items if _is_new_or_same(item, known)}
        segment = shard.segment
        return replace(
            shard,
            segment=None if segment is None else self._number_segment(db, segment),
            pictures=[item for item in shard.pictures if item.id in ids],
            text_items=[item for item in shard.text_items if item.id in ids],
            unused_ids=[
                *shard.unused_ids,
                *(item.id for item in shard.pictures if item.id not in ids),
            ],
        )

    def commit_shard(self, shard: ShardCommit) -> int:
        """Write a shard; see `SqlWriter.commit_shard`."""
        removed = super().commit_shard(shard)
        self._keep_up(shard)
        return removed

    def commit_new(self, shard: ShardCommit) -> None:
        """Write a shard of new pictures and new assets; see `SqlWriter.commit_new`."""
        super().commit_new(shard)
        self._keep_up(shard)

    def finish_run(
        self, run_id: int, outcome: str, counts: Mapping[str, int], source_id: int | None = None
    ) -> None:
        """Record the end of a run; see `SqlWriter.finish_run`."""
        self._count_stems()
        self._analyze()
        super().finish_run(run_id, outcome, counts, source_id)

    def _keep_up(self, shard: ShardCommit) -> None:
        """Count new stems, and let the server look at what has grown, when much has been added."""
        self._added_assets += len(shard.indexed)
        self._added_texts += sum(len(item.picture.texts) for item in shard.pictures)
        self._added_texts += sum(len(placed.texts) for placed in shard.indexed)
        if self._added_texts >= COUNT_EVERY:
            self._count_stems()
        if self._added_assets >= _ANALYZE_EVERY:
            self._analyze()

    def _count_stems(self) -> None:
        with write_transaction(self._engine) as connection:
            count_stems(as_read_connection(connection))
        self._added_texts = 0

    def _analyze(self) -> None:
        """Update what plans are made from, for tables that have doubled since the last time.

        The server itself looks once a minute. Until then, it takes a table for one of a few rows.
        """
        self._added_assets = 0
        with self._connections.read_transaction() as db:
            grown = column_values(db, _GROWN_TABLES)
        if grown:
            with connect(self._place, MAINTENANCE_TIMEOUT_S) as connection:
                for table in grown:
                    connection.execute(f"ANALYZE {quoted(table)}".encode())

    def _is_new(self, db: Database, shard: ShardCommit) -> bool:
        return bulk.is_new(db, shard)

    def _number_segment(self, db: Database, segment: Segment) -> Segment:
        """Return a segment with a number above those of all that are committed, or with its own.

        Readers take the segments above the number that the built index covers for newer ones.
        """
        statement = "SELECT number FROM segments WHERE name = ?"
        numbers = column_values(db, statement, [segment.file_ref.name])
        if numbers:
            return replace(segment, number=numbers[0])
        newest = scalar(db, "SELECT coalesce(max(number), 0) FROM segments")
        if segment.number > newest:
            return segment
        return replace(segment, number=reserve_ids(db, "segments", 1))

    def _flag_texts(
        self, connection: Connection, segment: Segment, pictures: Sequence[EncodedPicture]
    ) -> None:
        """Flag new embeddings of items whose texts have changed since they were read."""
        as_read_connection(connection).query(
            "UPDATE embeddings SET stale = 1 WHERE segment = ? AND stale = 0", [segment.number]
        )
        clear_stale(connection, [item.id for item in pictures])

    def vacuum(self) -> None:
        """Free the space of deleted rows for others, and update what plans are made from."""
        with connect(self._place, MAINTENANCE_TIMEOUT_S) as connection:
            for table in METADATA.tables:
                connection.execute(f"VACUUM (ANALYZE) {quoted(table)}".encode())

    def rebuild_derived(self) -> None:
        """Count files again, and rebuild the indexes."""
        with write_transaction(self._engine) as connection:
            db = as_read_connection(connection)
            self._recount(db)
            recount_stems(db)
            for table in METADATA.tables:
                db.query(f"REINDEX TABLE {quoted(table)}")

    def recover_rows(
        self, damaged: Path, recorded_roots: Mapping[bytes, Mapping[str, Any]]
    ) -> SalvageResult:
        """Raise an error: there is no file to recover rows from.

        Raises:
            StateError: Always.
        """
        raise StateError(
            "The catalog of this index is in PostgreSQL, so it has no file to recover.",
            "Restore it from a backup of pg_dump.",
        )


def _is_new_or_same(item: EncodedPicture, known: Mapping[tuple[bytes, int], int]) -> bool:
    return known.get((item.digest, item.locator.part), item.id) == item.id


def open_postgres_writer(
    place: PostgresPlace, *, create: bool = False, run: RunLock | None = None
) -> PostgresMaintenance:
    """Open a catalog for writing, and upgrade an older schema to the newest one.

    Args:
        place: The catalog.
        create: Create the schema if it is missing.
        run: See `PostgresMaintenance`.

    Raises:
        MMSearchError: The server cannot be reached, or there is no catalog.
    """
    with connect(place, MAINTENANCE_TIMEOUT_S) as connection:
        migrate(connection, place, create=create)
    return PostgresMaintenance(place, run)


@contextmanager
def open_postgres_run(
    place: PostgresPlace, name: str, source: tuple[str, bytes], wait_s: float
) -> Iterator[PostgresMaintenance]:
    """Open a catalog to add to one of its sources, while other runs add to others.

    Args:
        place: The catalog; its schema is created if it is missing.
        name: Name of the index, for messages.
        source: Kind of the source, and its URI or a folder in it.
        wait_s: Maximum seconds to wait for other writers.

    Raises:
        IndexLockedError: Another run writes the source, or a writer needs the whole index.
        MMSearchError: The server cannot be reached.
    """
    run = RunLock(place, name, wait_s)
    try:
        catalog = open_postgres_writer(place, create=True, run=run)
        try:
            run.take_source(*source, catalog.roots)
            yield catalog
        finally:
            catalog.close()
    finally:
        run.release()


def open_postgres_reader(place: PostgresPlace) -> SqlReader:
    """Open the newest state of a catalog for reading, again for each read.

    Raises:
        SchemaError: Its schema is newer or older than this code's.
        StorageError: The server cannot be reached, or there is no catalog.
    """
    pool = PostgresPool(place, check_readable)
    with pool.read_transaction():
        pass
    return SqlReader(pool)


def open_pinned_postgres(place: PostgresPlace) -> SqlReader:
    """Open the newest state of a catalog for reading; this state is fixed until it is closed.

    Raises:
        MMSearchError: The same errors as those of `open_postgres_reader`.
    """
    return SqlReader(PinnedPostgres(place, check_readable))
