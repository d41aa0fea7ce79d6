"""Reading of a catalog, except for what queries read of it; see `snapshot`.

Everything is SQL text on Python's sqlite3, because importing SQLAlchemy takes longer than a query.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.catalog.connection import (
    PinnedConnection,
    ReadConnection,
    ReadPool,
    copy_database,
    reject_journal,
)
from mmsearch.catalog.database import Connections
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.rows import (
    BUILDING,
    FILE_COLUMNS,
    check_relative_path,
    chunks,
    column_values,
    find_contents,
    join_path,
    load_assets,
    load_item_assets,
    load_pictures,
    locate,
    read_ids,
    read_roots,
    read_segment_item_ids,
    read_segments,
    read_sources,
    read_stale_rows,
    scalar,
    subtree_condition,
    summarize_sources,
)
from mmsearch.catalog.schema import check_readable
from mmsearch.catalog.snapshot import SqlSnapshot
from mmsearch.core.errors import StateError
from mmsearch.core.identity import Identity
from mmsearch.core.records import (
    AssetRecord,
    FailedFile,
    FileRecord,
    FolderRecord,
    Root,
    RunRecord,
    Segment,
    SkippedFile,
    SourceRecord,
    SourceSummary,
    StoredAsset,
    StoredPicture,
)
from mmsearch.core.types import Ids

if TYPE_CHECKING:
    from mmsearch.catalog.facets import FacetTables
    from mmsearch.core.derived import DerivedReader
    from mmsearch.core.duplicates import DuplicateReader

UNFINISHED_REPAIR_KEY = "unfinished_repair"
"""Key of the setting with the ids of the roots that a repair has yet to scan."""

SKIPPED_COUNTS_KEY = "skipped_files/"
"""Start of the keys of settings with numbers of skipped files; see `skipped_counts_key`."""

# b"0" is the byte after b"/": the bounds enclose all keys that start with the folder's name.
_DESCENDANTS = "source_id = :root AND key >= :first AND key < :last"


def open_reader(path: Path) -> SqlReader:
    """Open the newest state of a catalog for reading, again for each read.

    It needs no lock and changes nothing: it works beside a writer, and in a folder that cannot be
    written. An older schema is rejected.

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
    return SqlReader(pool)


def open_pinned_reader(path: Path) -> SqlReader:
    """Open the newest state of a catalog for reading; this state is fixed until it is closed.

    Writers may continue meanwhile. Nothing is written, and no temporary file is created.

    Raises:
        MMSearchError: The same errors as those of `open_reader`.
    """
    reject_journal(path)
    return SqlReader(PinnedConnection(path, check_readable))


class SqlReader:
    """Implementation of `mmsearch.core.catalog.CatalogReader`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._facet_tables: FacetTables | None = None

    def close(self) -> None:
        """Close the idle connection; the next read opens a new one."""
        self._connections.close()

    @property
    def derived(self) -> DerivedReader:
        """The texts that enrichers have made."""
        from mmsearch.catalog.derived import SqlDerivedReader  # noqa: PLC0415 - searches

        return SqlDerivedReader(self._connections)

    @property
    def duplicates(self) -> DuplicateReader:
        """The groups of duplicates."""
        from mmsearch.catalog.duplicates import SqlDuplicateReader  # noqa: PLC0415 - searches

        return SqlDuplicateReader(self._connections)

    # --- generations and segments ---

    def identity(self) -> Identity | None:
        """Return the identity of the index; None before its first run."""
        with self._connections.read_transaction() as db:
            return read_identity(db)

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        """Open the newest generation for reading; it does not change until it is closed."""
        with self._connections.read_transaction() as db:
            yield SqlSnapshot(db, self._load_facet_tables)

    def _load_facet_tables(self) -> FacetTables:
        from mmsearch.catalog.facets import FacetTables  # noqa: PLC0415 - searches never need it

        if self._facet_tables is None:
            self._facet_tables = FacetTables()
        return self._facet_tables

    def segments(self) -> list[Segment]:
        """Return all segments, oldest first."""
        with self._connections.read_transaction() as db:
            return read_segments(db)

    def list_building_segments(self) -> list[Segment]:
        """Return the segments of the space being built, oldest first."""
        with self._connections.read_transaction() as db:
            return read_segments(db, BUILDING)

    def building_key(self) -> str | None:
        """Return the key of the space being built; None if there is no such space."""
        with self._connections.read_transaction() as db:
            keys = column_values(db, "SELECT encoder FROM spaces WHERE state = ?", [BUILDING])
        return keys[0] if keys else None

    def referenced_files(self) -> set[str]:
        """Return the file names of all segments, of derived texts and of the newest built index.

        Segments of the space being built are included.
        """
        with self._connections.read_transaction() as db:
            segments = read_segments(db) + read_segments(db, BUILDING)
            built = SqlSnapshot(db).built
            derived = column_values(db, "SELECT name FROM derived_files")
        names = {*derived, *(segment.file_ref.name for segment in segments)}
        return names if built is None else names | {built.file_ref.name}

    def next_free_ids(self) -> tuple[int, int]:
        """Return the first free picture id and the first free segment number."""
        with self._connections.read_transaction() as db:
            next_id = db.dialect.next_id
            ((item_id, number),) = db.query(
                f"SELECT {next_id('items', 'id')}, {next_id('segments', 'number')}"
            )
            return item_id, number

    # --- pictures ---

    def find_item_ids(self, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Return the ids of the first items of contents, by digest, live or not."""
        with self._connections.read_transaction() as db:
            return {d: item_id for d, (_, item_id) in find_contents(db, digests).items()}

    def list_live_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Return live pictures with an id above ``after_id``, by id."""
        with self._connections.read_transaction() as db:
            statement = "SELECT id FROM items WHERE id > ? AND is_live = 1 ORDER BY id LIMIT ?"
            return load_pictures(db, column_values(db, statement, [after_id, limit]))

    def list_segment_pictures(self, segment_number: int) -> list[StoredPicture]:
        """Return the live items whose embedding is in a segment, by id."""
        with self._connections.read_transaction() as db:
            return load_pictures(db, read_segment_item_ids(db, segment_number))

    def segment_item_ids(self, segment_number: int) -> Ids:
        """Return the ids of the items that have a row in a segment, stale or not; ascending."""
        with self._connections.read_transaction() as db:
            return read_ids(
                db,
                "SELECT item_id FROM embeddings WHERE segment = ? UNION ALL"
                " SELECT item_id FROM stale_rows WHERE segment = ? ORDER BY item_id",
                [segment_number, segment_number],
            )

    def stale_rows(self) -> dict[int, Ids]:
        """Return the ids of the items whose rows are stale, by number of the segment."""
        with self._connections.read_transaction() as db:
            return read_stale_rows(db)

    # --- sources, files and folders ---

    def sources(self) -> list[SourceRecord]:
        """Return the sources, oldest first."""
        with self._connections.read_transaction() as db:
            return read_sources(db)

    def summarize_sources(self) -> list[SourceSummary]:
        """Return the sources with their numbers of pictures and last runs, oldest first."""
        with self._connections.read_transaction() as db:
            return summarize_sources(db)

    def count_elsewhere(self, source_id: int) -> int:
        """Return the number of assets whose content another source has, too."""
        statement = (
            "SELECT count(*) FROM assets AS own WHERE source_id = ? AND EXISTS (SELECT 1 FROM"
            " assets WHERE content_id = own.content_id AND source_id <> own.source_id)"
        )
        with self._connections.read_transaction() as db:
            return scalar(db, statement, [source_id])

    def list_part_keys(self, source_id: int) -> list[bytes]:
        """Return the parts that the items of a source are in."""
        with self._connections.read_transaction() as db:
            return column_values(
                db,
                "SELECT DISTINCT part FROM assets WHERE source_id = ? AND part IS NOT NULL",
                [source_id],
            )

    def list_assets(self, source_id: int, part: bytes) -> dict[bytes, AssetRecord]:
        """Return the items of a part of a source, by key."""
        with self._connections.read_transaction() as db:
            rows = db.query(
                "SELECT key, digest, stamp, size, error FROM assets"
                " WHERE source_id = ? AND part = ?",
                [source_id, part],
            )
        return {
            key: AssetRecord(key, digest, stamp or b"", *others)
            for key, digest, stamp, *others in rows
        }

    def load_assets(self, source_id: int, keys: Iterable[bytes]) -> dict[bytes, StoredAsset]:
        """Return what is stored of the known keys of a source."""
        with self._connections.read_transaction() as db:
            return load_assets(db, source_id, keys)

    def list_item_assets(
        self, ids: Sequence[int]
    ) -> dict[int, dict[tuple[bytes, bytes], StoredAsset]]:
        """Return the assets of items in sources other than folders, by URI and key."""
        with self._connections.read_transaction() as db:
            return load_item_assets(db, ids)

    def find_assets(self, source_id: int, keys: Iterable[bytes]) -> dict[bytes, int | None]:
        """Return the picture of each known key of a source; None for one that cannot be read."""
        found: dict[bytes, int | None] = {}
        with self._connections.read_transaction() as db:
            for chunk in chunks(list(keys)):
                marks = ", ".join("?" * len(chunk))
                found.update(
                    db.query(
                        "SELECT key, items.id FROM assets LEFT JOIN items"  # noqa: S608
                        " ON items.content_id = assets.content_id AND items.part = 0"
                        f" WHERE source_id = ? AND key IN ({marks})",
                        [source_id, *chunk],
                    )
                )
        return found

    def roots(self) -> list[Root]:
        """Return the indexed folders, oldest first."""
        with self._connections.read_transaction() as db:
            return read_roots(db)

    def list_files_under(
        self, root_id: int, subpath: bytes, skip_folders: Container[bytes] = ()
    ) -> dict[bytes, FileRecord]:
        """Return the files of a root at or under ``subpath``, by relative path.

        Args:
            root_id: Id of the root.
            subpath: Path relative to the root; b"" for the whole root.
            skip_folders: Folders whose direct files are skipped.
        """
        condition, values = subtree_condition(root_id, subpath)
        statement = f"SELECT {FILE_COLUMNS} FROM assets WHERE {condition}"  # noqa: S608
        files_by_path = {}
        with self._connections.read_transaction() as db:
            for row in db.iterate(statement, values):
                check_relative_path(row[0])
                if row[0].rpartition(b"/")[0] not in skip_folders:
                    files_by_path[row[0]] = FileRecord(*row)
        return files_by_path

    def list_files_in(self, root_id: int, folder: bytes) -> dict[bytes, FileRecord]:
        """Return the files of a root directly in a folder, not in its subfolders."""
        bounds = {"first": folder + b"/", "last": folder + b"0"} if folder else {}
        condition = _DESCENDANTS if folder else "source_id = :root"
        start = len(folder) + 2 if folder else 1
        with self._connections.read_transaction() as db:
            rows = db.query(
                f"SELECT {FILE_COLUMNS} FROM assets WHERE {condition}"  # noqa: S608
                f" AND {db.dialect.position(':slash', 'substr(key, :start)')} = 0",
                {"root": root_id, **bounds, "start": start, "slash": b"/"},
            )
        return {row[0]: FileRecord(*row) for row in rows}

    def list_captioned_files(self, root_id: int, subpath: bytes, table: bytes) -> frozenset[bytes]:
        """Return the paths of `list_files_under` that have stored captions from a table."""
        condition, values = subtree_condition(root_id, subpath)
        with self._connections.read_transaction() as db:
            statement = (
                "SELECT key FROM assets JOIN texts ON texts.asset_id = assets.id"  # noqa: S608
                f" WHERE table_path = ? AND {condition}"
            )
            return frozenset(column_values(db, statement, [table, *values]))

    def count_files_under(self, root_id: int, subpath: bytes) -> int:
        """Return the number of files of a root at or under ``subpath``."""
        condition, values = subtree_condition(root_id, subpath)
        with self._connections.read_transaction() as db:
            return scalar(db, f"SELECT count(*) FROM assets WHERE {condition}", values)  # noqa: S608

    def file_count(self) -> int:
        """Return the number of files whose picture is indexed."""
        with self._connections.read_transaction() as db:
            return scalar(db, "SELECT count(*) FROM assets WHERE content_id IS NOT NULL")

    def failures(self) -> list[FailedFile]:
        """Return the files that could not be read, sorted by path."""
        with self._connections.read_transaction() as db:
            rows = db.query(
                "SELECT sources.kind, sources.uri, assets.key, error FROM assets"
                " JOIN sources ON sources.id = source_id WHERE content_id IS NULL"
            )
        failed = [FailedFile(locate(*place), error or "") for *place, error in rows]
        return sorted(failed, key=lambda file: file.path)

    def damaged_files(self) -> list[FailedFile]:
        """Return the files whose picture is indexed as far as it could be read, sorted by path."""
        with self._connections.read_transaction() as db:
            rows = db.query(
                "SELECT sources.kind, sources.uri, assets.key, damage FROM items"
                " JOIN assets USING (content_id) JOIN sources ON sources.id = source_id"
                " WHERE damage IS NOT NULL"
            )
        damaged = [FailedFile(locate(*place), damage) for *place, damage in rows]
        return sorted(damaged, key=lambda file: file.path)

    def load_folder_states(self, root_id: int, subpath: bytes) -> dict[bytes, FolderRecord]:
        """Return the folders at or under ``subpath`` in which a run found nothing left to do.

        Triggers delete all folders of a root when a row of any of its files changes.
        """
        condition, values = subtree_condition(root_id, subpath)
        statement = f"SELECT key, stamp, items, failed FROM parts WHERE {condition}"  # noqa: S608
        with self._connections.read_transaction() as db:
            return {path: FolderRecord(*row) for path, *row in db.query(statement, values)}

    def list_skipped_under(
        self, root_id: int, subpath: bytes, skip_folders: Container[bytes] = ()
    ) -> dict[bytes, SkippedFile]:
        """Return the files of a root at or under ``subpath`` that are not read, by relative path.

        Those directly in one of ``skip_folders`` are left out.
        """
        condition, values = subtree_condition(root_id, subpath)
        statement = f"SELECT key, reason, size, mtime_ns FROM skipped_files WHERE {condition}"  # noqa: S608
        with self._connections.read_transaction() as db:
            return {
                row[0]: SkippedFile(*row)
                for row in db.iterate(statement, values)
                if row[0].rpartition(b"/")[0] not in skip_folders
            }

    def list_skip_reasons(self, root_id: int, subpath: bytes) -> list[tuple[bytes, str]]:
        """Return path and reason of the files of `list_skipped_under`."""
        condition, values = subtree_condition(root_id, subpath)
        statement = f"SELECT key, reason FROM skipped_files WHERE {condition}"  # noqa: S608
        with self._connections.read_transaction() as db:
            return db.query(statement, values)

    def load_skipped_counts(
        self, root_id: int, subpath: bytes
    ) -> list[tuple[str, str, int]] | None:
        """Return what `save_skipped_counts` saved; None if files have changed since."""
        with self._connections.read_transaction() as db:
            stored = column_values(
                db,
                "SELECT value FROM settings WHERE key = ?",
                [skipped_counts_key(root_id, subpath)],
            )
        return (
            [(kind, reason, files) for kind, reason, files in json.loads(stored[0])]
            if stored
            else None
        )

    def skipped_files(self) -> list[FailedFile]:
        """Return the files that are not read, sorted by path."""
        with self._connections.read_transaction() as db:
            rows = db.query(
                "SELECT sources.uri, skipped_files.key, reason FROM skipped_files"
                " JOIN sources ON sources.id = source_id"
            )
        skipped = [FailedFile(join_path(root, path), reason) for root, path, reason in rows]
        return sorted(skipped, key=lambda file: file.path)

    # --- runs and repairs ---

    def last_run(self) -> RunRecord | None:
        """Return the latest run; its outcome is ``running`` if no end was recorded."""
        with self._connections.read_transaction() as db:
            rows = db.query(
                "SELECT started_at, finished_at, outcome, counts FROM runs ORDER BY id DESC LIMIT 1"
            )
        if not rows:
            return None
        started_at, finished_at, outcome, counts = rows[0]
        return RunRecord(started_at, finished_at, outcome, json.loads(counts))

    def load_unfinished_roots(self) -> list[int]:
        """Return the ids of the roots that a repair has yet to scan."""
        with self._connections.read_transaction() as db:
            stored = column_values(
                db, "SELECT value FROM settings WHERE key = ?", [UNFINISHED_REPAIR_KEY]
            )
        return list(json.loads(stored[0])) if stored else []

    def find_problems(self) -> Iterator[str]:
        """Yield one sentence for each confirmed problem of the catalog."""
        from mmsearch.catalog.integrity import find_problems  # noqa: PLC0415 - only for a check

        with self._connections.read_transaction() as db:
            yield from find_problems(db)

    def copy_to(self, path: Path) -> None:
        """Copy one state of the catalog to another file, durably, even while a writer is active.

        SQLite restarts a backup when another connection writes
        (https://www.sqlite.org/backup.html). Here the copy takes a single step, which holds a read
        transaction, so it never restarts.

        Raises:
            MMSearchError: The database cannot be read, or the copy cannot be written.
            OSError: The copy cannot be written.
            StateError: The catalog is on a server.
        """
        with self._connections.read_transaction() as db:
            if not isinstance(db, ReadConnection):
                raise StateError(
                    "The catalog of this index is in PostgreSQL, so it has no file to copy.",
                    "Back it up with pg_dump, and copy the other files of the index.",
                )
            copy_database(db, path)


def skipped_counts_key(root_id: int, subpath: bytes) -> str:
    """Return the key of the setting with the numbers of skipped files below a folder."""
    return f"{SKIPPED_COUNTS_KEY}{root_id}/{subpath.hex()}"
