"""Writing of a catalog: each method is one transaction, written with SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, update

from mmsearch.catalog.commits import (
    add_embeddings,
    add_segment,
    add_text_items,
    begin_segment,
    delete_assets,
    delete_empty_contents,
    has_segment,
    mark_failed,
    upsert_assets,
)
from mmsearch.catalog.database import Connections, Database
from mmsearch.catalog.derived_commits import SqlDerivedWriter
from mmsearch.catalog.duplicate_writes import SqlDuplicateWriter
from mmsearch.catalog.field_changes import add_changes, begin_epoch
from mmsearch.catalog.generations import (
    add_generation,
    delete_old_generations,
    discard_building,
    insert_row,
    publish,
    replace_identity,
    write_identity,
)
from mmsearch.catalog.identity import CALIBRATION_KEY
from mmsearch.catalog.metadata import merge_changed_metadata
from mmsearch.catalog.place_texts import (
    is_named,
    list_located,
    record_named,
    update_places,
)
from mmsearch.catalog.reader import SKIPPED_COUNTS_KEY, SqlReader, skipped_counts_key
from mmsearch.catalog.row_writes import (
    delete_rows,
    insert_rows,
    reserve_ids,
    save_setting,
    update_rows,
    upsert_rows,
)
from mmsearch.catalog.rows import (
    BUILDING,
    LAST_RUN_KEY,
    MUST_DECODE,
    SERVING,
    SPACE_IN,
    column_values,
    find_contents,
    load_pictures,
    now,
    storable,
    subtree_condition,
)
from mmsearch.catalog.single_writer import SingleWriter
from mmsearch.catalog.source_writes import (
    ensure_root,
    ensure_source,
    move_root,
    remove_source,
    set_choices,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, write_transaction
from mmsearch.catalog.suggestion_writes import SqlSuggestionWriter
from mmsearch.catalog.tables import (
    ASSETS,
    EMBEDDINGS,
    PARTS,
    RUNS,
    SETTINGS,
    SKIPPED_FILES,
    SPACES,
)
from mmsearch.catalog.texts import clear_stale
from mmsearch.core.identity import Identity
from mmsearch.core.records import (
    BuiltVectorIndex,
    EncodedPicture,
    FolderRecord,
    IndexCalibration,
    Root,
    Segment,
    ShardCommit,
    SkippedFile,
    SourceRecord,
    StoredPicture,
)

_PLACES_PAGE_SIZE = 10_000
"""Number of items whose places are named between two commits."""

_SPACE_KEY = "SELECT encoder FROM spaces WHERE state = ?"

# A copied embedding is as outdated as the one it was copied from.
_COPY_STALE_FLAGS = (
    "UPDATE embeddings SET stale = 1 WHERE segment = :segment AND stale = 0 AND item_id IN"  # noqa: S608
    f" (SELECT item_id FROM embeddings WHERE stale > 0 AND space_id = {SPACE_IN.format(SERVING)})"
)


class SqlWriter(SingleWriter, SqlReader):
    """Implementation of `mmsearch.core.catalog.CatalogWriter`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
        engine: Its engine; `close` disposes of it.
    """

    def __init__(self, connections: Connections, engine: Engine) -> None:
        super().__init__(connections)
        self._engine = engine

    @property
    def derived(self) -> SqlDerivedWriter:
        """The texts that enrichers have made."""
        return SqlDerivedWriter(self._connections, self._engine)

    @property
    def suggestions(self) -> SqlSuggestionWriter:
        """The words that suggestions are chosen from."""
        return SqlSuggestionWriter(self._connections, self._engine)

    @property
    def duplicates(self) -> SqlDuplicateWriter:
        """The groups of duplicates."""
        return SqlDuplicateWriter(self._connections, self._engine)

    def close(self) -> None:
        """Close the connections. All snapshots must be closed before."""
        super().close()
        self._engine.dispose()

    # --- identity and roots ---

    def set_identity(self, identity: Identity) -> None:
        """Set the identity, or replace the part that may change.

        Once the index holds vectors, all but the encoder may change. The encoder's name may change
        if its fingerprint does not.

        Raises:
            EncoderMismatchError: The index holds vectors of another encoder.
        """
        with write_transaction(self._engine) as connection:
            write_identity(connection, identity)

    def ensure_root(self, path: bytes, name: str | None = None) -> tuple[Root, bytes]:
        """Return the root that covers ``path``, and the path relative to it (b"" for the root).

        If no root covers the path, add it as a root. A new root takes over the files of the roots
        inside it, and replaces those roots.

        Args:
            path: Absolute, normalized path (no ``..``), as the file system's bytes.
            name: Name of a new root; default: the last part of the path.
        """
        with write_transaction(self._engine) as connection:
            root_and_path = ensure_root(connection, path, name)
        self._record_roots()
        return root_and_path

    def ensure_source(
        self, kind: str, uri: bytes, choices: Mapping[str, Any], name: str | None = None
    ) -> SourceRecord:
        """Return the source with a URI, with these choices; it is added if it is not known.

        Args:
            kind: See `SourceRecord`.
            uri: Path or URI.
            choices: The choices, as JSON values.
            name: Name of a new source; default: the last part of the URI.

        Raises:
            SourceError: A source of another kind has that URI.
        """
        with write_transaction(self._engine) as connection:
            source, is_new = ensure_source(connection, kind, uri, choices, name)
        if is_new:
            self._record_roots()
        return source

    def set_choices(self, source_id: int, choices: Mapping[str, Any]) -> None:
        """Replace the choices of a source, so that the next run looks through all of it."""
        with write_transaction(self._engine) as connection:
            set_choices(connection, source_id, choices)
        self._record_roots()

    def remove_source(self, source_id: int) -> int:
        """Remove a source and its assets; return the number of assets that had a picture.

        Pictures without other assets are deleted; their vectors stay until compaction.
        """
        with write_transaction(self._engine) as connection:
            removed = remove_source(connection, source_id)
        self._record_roots()
        return removed

    def save_part(self, source_id: int, key: bytes, part: FolderRecord | None) -> None:
        """Save that a part of a source is up to date, or, with None, that it is not."""
        condition = (PARTS.c.source_id == source_id) & (PARTS.c.key == key)
        with write_transaction(self._engine) as connection:
            connection.execute(delete(PARTS).where(condition))
            if part is not None:
                row = {"source_id": source_id, "key": key, "stamp": part.digest}
                counts = {"items": part.pictures, "failed": part.failed}
                connection.execute(insert(PARTS), row | counts)

    def move_root(self, name: str, path: bytes) -> Root:
        """Point a root at another folder and absorb the roots inside that folder.

        Raises:
            UnknownNameError: No root has that name.
            SourceError: Another root already covers the folder.
        """
        with write_transaction(self._engine) as connection:
            moved = move_root(connection, name, path)
        self._record_roots()
        return moved

    def _record_roots(self) -> None:
        """Record the indexed folders elsewhere, too, after they have changed; here, nowhere."""

    # --- runs and shards ---

    def begin_run(self) -> int:
        """Record the start of a run and return its id."""
        self._name_places()
        statement = insert(RUNS).values(started_at=now(), outcome="running", counts={})
        with write_transaction(self._engine) as connection:
            return insert_row(connection, statement)

    def _name_places(self) -> None:
        """Name the places of all items, unless they are named by the present data already."""
        with self._connections.read_transaction() as db:
            if is_named(db):
                return
            located = list_located(db)
        for first in range(0, len(located), _PLACES_PAGE_SIZE):
            with write_transaction(self._engine) as connection:
                update_places(connection, located[first : first + _PLACES_PAGE_SIZE])
                add_generation(connection)
        with write_transaction(self._engine) as connection:
            record_named(connection)

    def finish_run(
        self, run_id: int, outcome: str, counts: Mapping[str, int], source_id: int | None = None
    ) -> None:
        """Record the end of a run, and of which source, and its outcome."""
        end = {"finished_at": now(), "outcome": outcome}
        statement = update(RUNS).where(RUNS.c.id == run_id)
        with write_transaction(self._engine) as connection:
            connection.execute(statement.values(**end, counts=dict(counts)))
            if source_id is not None:
                save_setting(connection, f"{LAST_RUN_KEY}{source_id}", end)

    def save_folder_states(
        self, root_id: int, subpath: bytes, folders: Mapping[bytes, FolderRecord]
    ) -> None:
        """Replace the stored states of all folders at or under ``subpath``.

        They are deleted as soon as any file of the root changes.
        """
        condition, values = subtree_condition(root_id, subpath)
        rows = [
            {
                "source_id": root_id,
                "key": path,
                "stamp": folder.digest,
                "items": folder.pictures,
                "failed": folder.failed,
            }
            for path, folder in folders.items()
        ]
        with write_transaction(self._engine) as connection:
            as_read_connection(connection).query(f"DELETE FROM parts WHERE {condition}", values)  # noqa: S608
            insert_rows(connection, PARTS, rows)

    def save_skipped(
        self, root_id: int, changed: Sequence[SkippedFile], removed: Sequence[bytes]
    ) -> None:
        """Write files of a root that are not read, and delete those of other paths."""
        rows = [
            {
                "source_id": root_id,
                "key": file.path,
                "size": file.size,
                "mtime_ns": file.mtime_ns,
                "reason": storable(file.reason),
            }
            for file in changed
        ]
        with write_transaction(self._engine) as connection:
            connection.execute(
                delete(SETTINGS).where(SETTINGS.c.key.startswith(SKIPPED_COUNTS_KEY))
            )
            gone = [{"source_id": root_id, "key": path} for path in removed]
            delete_rows(connection, SKIPPED_FILES, gone)
            upsert_rows(connection, SKIPPED_FILES, rows, ("source_id", "key"))

    def save_skipped_counts(
        self, root_id: int, subpath: bytes, counts: Sequence[tuple[str, str, int]]
    ) -> None:
        """Save the numbers of files of a folder that are not read, until any of them changes."""
        key = skipped_counts_key(root_id, subpath)
        with write_transaction(self._engine) as connection:
            save_setting(connection, key, [list(count) for count in counts])

    def save_calibration(self, calibration: IndexCalibration) -> int:
        """Write the index's own calibration, and return the new generation."""
        with write_transaction(self._engine) as connection:
            save_setting(connection, CALIBRATION_KEY, asdict(calibration))
            return add_generation(connection)

    def begin_collection(self) -> Mapping[str, Any]:
        """Keep track of changed fields from now on, and return settings of a new collection."""
        with write_transaction(self._engine) as connection:
            return begin_epoch(as_read_connection(connection))

    def add_changed_fields(self, ids: Sequence[int]) -> None:
        """Let items count as changed since the fields of a collection were read."""
        with write_transaction(self._engine) as connection:
            add_changes(as_read_connection(connection), ids)

    def save_ctimes(self, root_id: int, ctimes: Mapping[bytes, int]) -> None:
        """Write the change times of files that earlier versions have read, by path."""
        with write_transaction(self._engine) as connection:
            rows = [
                {"source_id": root_id, "key": path, "ctime_ns": ctime_ns}
                for path, ctime_ns in ctimes.items()
            ]
            update_rows(connection, ASSETS, rows, ("source_id", "key"))

    def commit_shard(self, shard: ShardCommit) -> int:
        """Write a shard, and add a generation if that changed any row; idempotent.

        Returns:
            Number of captions from tables that were removed.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        with write_transaction(self._engine) as connection:
            db = as_read_connection(connection)
            space_id, new = 0, list[EncodedPicture]()
            if not db.query("SELECT 1 FROM sources WHERE id = ?", [shard.root_id]):
                raise ValueError(f"there is no root {shard.root_id}")
            changes_before = db.count_changes()
            shard = self._prepare(db, shard)
            if self._is_new(db, shard):
                self._insert_new(connection, shard)
                return 0
            if shard.segment is None:
                if shard.pictures:
                    raise ValueError(f"{len(shard.pictures)} pictures without a segment")
            elif not has_segment(db, shard.segment):
                unused_ids = sorted(shard.unused_ids)
                space_id, new = begin_segment(
                    connection, shard.segment, shard.pictures, stale_ids=unused_ids
                )
            if shard.text_items:
                add_text_items(connection, shard.text_items)
            contents = find_contents(db, (placed.digest for placed in shard.indexed))
            removed = upsert_assets(connection, shard, contents)
            delete_assets(connection, shard)
            if shard.segment is not None:
                add_embeddings(connection, shard.segment, new, space_id)
            affected_ids = {*merge_changed_metadata(connection)}
            affected_ids |= {item_id for _, item_id in contents.values()}
            affected_ids |= {item.id for item in (*shard.pictures, *shard.text_items)}
            update_places(connection, affected_ids)
            clear_stale(connection, sorted(affected_ids))
            if db.count_changes() != changes_before:
                add_generation(connection)
        return removed

    def _prepare(self, db: Database, shard: ShardCommit) -> ShardCommit:
        """Return what is to be written of a shard, beside other writers; here, all of it."""
        return shard

    def _is_new(self, db: Database, shard: ShardCommit) -> bool:
        """Return True if `commit_new` can write a shard, and knowing it is worth a few reads."""
        return False

    def reserve_ids(self, items: int, segments: int) -> tuple[int, int]:
        """Reserve ids of items and numbers of segments, which no other writer gets.

        Args:
            items: Number of ids.
            segments: Number of segments.

        Returns:
            The first of each; the others follow.
        """
        with write_transaction(self._engine, alone=False) as connection:
            db = as_read_connection(connection)
            # Commits lock these rows in the same order.
            number = reserve_ids(db, "segments", segments)
            return reserve_ids(db, "items", items), number

    def commit_new(self, shard: ShardCommit) -> None:
        """Write a shard of new pictures and new assets as `commit_shard` does, but faster.

        Args:
            shard: A shard of nothing else. The ids and contents of its pictures, and the keys of
                its assets, are not in the catalog.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        with write_transaction(self._engine) as connection:
            self._insert_new(connection, self._prepare(as_read_connection(connection), shard))

    def _insert_new(self, connection: Connection, shard: ShardCommit) -> None:
        from mmsearch.catalog import bulk  # noqa: PLC0415 - only imports need it

        item_ids = bulk.insert_shard(connection, shard)
        merged = merge_changed_metadata(connection)
        update_places(connection, {*merged, *item_ids, *(item.id for item in shard.pictures)})
        clear_stale(connection, item_ids)
        if shard.pictures or shard.indexed:
            add_generation(connection)

    def list_stale(
        self, after_id: int, limit: int, *, building: bool = False
    ) -> list[StoredPicture]:
        """Return live items whose embedding is missing or outdated, with an id above, by id.

        Flags of embeddings whose texts turn out to be unchanged are cleared.
        """
        state = BUILDING if building else SERVING
        space = SPACE_IN.format(state)
        with write_transaction(self._engine) as connection:
            db = as_read_connection(connection)
            flagged = column_values(
                db,
                "SELECT item_id FROM embeddings JOIN items ON items.id = item_id"  # noqa: S608
                f" WHERE stale > 0 AND space_id = {space} AND item_id > ? AND is_live = 1",
                [after_id],
            )
            clear_stale(connection, flagged)
            stale = column_values(
                db,
                "SELECT id FROM items WHERE id > ? AND is_live = 1 AND has_pixels = 1"  # noqa: S608
                " AND NOT EXISTS"
                " (SELECT 1 FROM embeddings WHERE item_id = items.id AND stale = 0"
                f" AND space_id = {space}) ORDER BY id LIMIT ?",
                [after_id, limit],
            )
            return load_pictures(db, stale)

    def mark_undecoded(self, segment_number: int) -> None:
        """Mark the pictures of a segment to be decoded and encoded again."""
        with write_transaction(self._engine) as connection:
            connection.execute(
                update(EMBEDDINGS)
                .where(EMBEDDINGS.c.segment == segment_number)
                .values(stale=MUST_DECODE)
            )

    def publish(self, built: BuiltVectorIndex, identity: Identity | None = None) -> int:
        """Make a built index the one that readers use, and return the new generation's number.

        If an identity is given, for vectors that were fused differently, write it in the same
        transaction.
        """
        with write_transaction(self._engine) as connection:
            if identity is not None:
                write_identity(connection, identity)
            return publish(connection, built)

    # --- the space being built, which replaces the serving one ---
    #
    # Its segments are added one after another, beside those that readers use, and it is activated
    # in one transaction. So compaction and a change of the encoder are invisible until they are
    # complete, and the process may be killed at any time.

    def begin_space(self, key: str) -> None:
        """Make a space the one being built, or go on with it.

        A space that was begun with another key is discarded.

        Args:
            key: What its vectors are made by, such as the fingerprint of an encoder.
        """
        with write_transaction(self._engine) as connection:
            if column_values(as_read_connection(connection), _SPACE_KEY, [BUILDING]) != [key]:
                discard_building(connection)
                connection.execute(insert(SPACES).values(encoder=key, state=BUILDING))

    def commit_embeddings(
        self,
        segment: Segment,
        pictures: Sequence[EncodedPicture],
        unused_ids: Sequence[int] = (),
        *,
        building: bool = False,
    ) -> None:
        """Record a segment with new embeddings of items.

        Readers do not see those of the space being built yet.

        Args:
            segment: The segment.
            pictures: The items, in the order of its rows.
            unused_ids: See `ShardCommit`.
            building: True if the segment belongs to the space being built.
        """
        with write_transaction(self._engine) as connection:
            state, db = BUILDING if building else SERVING, as_read_connection(connection)
            segment = self._number_segment(db, segment)
            add_segment(connection, segment, pictures, state, stale_ids=sorted(unused_ids))
            if building:
                db.query(_COPY_STALE_FLAGS, {"segment": segment.number})
            else:
                self._flag_texts(connection, segment, pictures)
            merged = merge_changed_metadata(connection)
            update_places(connection, {*merged, *(item.id for item in pictures)})
            clear_stale(connection, [item.id for item in pictures if not item.keep_texts])
            # Metadata that was read again is visible at once.
            if not building or merged or not all(item.keep_texts for item in pictures):
                add_generation(connection)

    def discard_building(self) -> None:
        """Discard the space being built."""
        with write_transaction(self._engine) as connection:
            discard_building(connection)

    def activate_space(
        self, built: BuiltVectorIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Replace the serving space by the one being built; delete the items that are not in it.

        Args:
            built: Vector index of the new space; None if there is nothing to index.
            identity: The new identity of the index.
            unreadable: Reasons by id of the items that could not be encoded; their assets are
                marked as failed.

        Raises:
            ValueError: A live item is neither in the new space nor unreadable (a bug).
        """
        with write_transaction(self._engine) as connection:
            for number, reason in unreadable.items():
                mark_failed(connection, [number], reason)
            db = as_read_connection(connection)
            in_space = (
                f"SELECT item_id FROM embeddings WHERE space_id = {SPACE_IN.format(BUILDING)}"  # noqa: S608
            )
            missing = db.query(
                "SELECT id FROM items WHERE is_live = 1 AND has_pixels = 1"  # noqa: S608
                f" AND id NOT IN ({in_space}) LIMIT 1"
            )
            if missing:
                raise ValueError(f"item {missing[0][0]} is not in the space being built")
            serving = SPACE_IN.format(SERVING)
            is_gone = f"(has_pixels = 1 OR is_live = 0) AND id NOT IN ({in_space})"
            for statement in (
                # A content that loses an item is no longer known; see `delete_items`.
                "UPDATE contents SET digest = randomblob(32) WHERE id IN"  # noqa: S608
                f" (SELECT content_id FROM items WHERE {is_gone})",
                f"DELETE FROM items WHERE {is_gone}",  # noqa: S608
                f"DELETE FROM embeddings WHERE space_id = {serving}",  # noqa: S608
                f"DELETE FROM segments WHERE space_id = {serving}",  # noqa: S608
                f"DELETE FROM spaces WHERE state = '{SERVING}'",  # noqa: S608
                f"UPDATE spaces SET state = '{SERVING}'",  # noqa: S608
            ):
                db.query(statement)
            delete_empty_contents(connection)
            replace_identity(connection, identity)
            if built is None:
                add_generation(connection, None)
            else:
                publish(connection, built)
            delete_old_generations(connection)
