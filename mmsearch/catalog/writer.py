"""Writing of a catalog: each method is one transaction, written with SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, count
from pathlib import Path
from types import EllipsisType
from typing import Any

from sqlalchemy import Connection, Engine, Insert, bindparam, delete, select, text, update
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog import checksum
from mmsearch.catalog.commits import (
    add_segment,
    delete_assets,
    delete_empty_contents,
    has_segment,
    insert_rows,
    mark_failed,
    upsert_assets,
)
from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S, ReadPool
from mmsearch.catalog.identity import CALIBRATION_KEY, read_identity, to_settings
from mmsearch.catalog.metadata import merge_changed_metadata
from mmsearch.catalog.reader import SKIPPED_COUNTS_KEY, SqliteReader, skipped_counts_key
from mmsearch.catalog.rows import (
    BUILDING,
    LAST_RUN_KEY,
    MUST_DECODE,
    SERVING,
    SPACE_IN,
    TEXTS_CHANGED,
    column_values,
    find_contents,
    load_pictures,
    now,
    read_roots,
    read_sources,
    relative_to,
    storable,
    subtree_condition,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, checkpoint_wal, write_transaction
from mmsearch.catalog.tables import (
    ASSETS,
    BUILT_INDEXES,
    EMBEDDINGS,
    GENERATIONS,
    PARTS,
    RUNS,
    SETTINGS,
    SKIPPED_FILES,
    SOURCES,
    SPACES,
)
from mmsearch.catalog.texts import clear_stale
from mmsearch.core.display import display_path
from mmsearch.core.errors import EncoderMismatchError, SourceError, UnknownNameError, UsageError
from mmsearch.core.folder_choices import FolderChoices
from mmsearch.core.records import (
    FOLDER_KIND,
    BuiltVectorIndex,
    EncodedPicture,
    FolderRecord,
    Identity,
    IndexCalibration,
    Root,
    Segment,
    ShardCommit,
    SkippedFile,
    SourceRecord,
    StoredPicture,
)
from mmsearch.storage.failpoints import FailPoint, hit_failpoint

_SPACE_KEY = "SELECT encoder FROM spaces WHERE state = ?"

# A copied embedding is as outdated as the one it was copied from.
_COPY_STALE_FLAGS = (
    "UPDATE embeddings SET stale = 1 WHERE segment = :segment AND stale = 0 AND item_id IN"  # noqa: S608
    f" (SELECT item_id FROM embeddings WHERE stale > 0 AND space_id = {SPACE_IN.format(SERVING)})"
)


class SqliteWriter(SqliteReader):
    """Implementation of `mmsearch.core.catalog.CatalogWriter`; thread-safe.

    Args:
        path: The database, with the newest schema.
        engine: Its engine from `open_engine`; `close` disposes of it.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        super().__init__(ReadPool(path, timeout_s=MAINTENANCE_TIMEOUT_S))
        self._path = path
        self._engine = engine
        self._is_open = True

    def close(self) -> None:
        """Close the connections and write the checksum. All snapshots must be closed before."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            folders = self._folders()
            super().close()
            checkpoint_wal(self._engine)
        finally:
            super().close()
            self._engine.dispose()
        hit_failpoint(FailPoint.CATALOG_CLOSED)
        checksum.mark_clean(self._path, folders)

    # --- identity and roots ---

    def set_identity(self, identity: Identity) -> None:
        """Set the identity, or replace the part that may change.

        Once the index holds vectors, all but the encoder may change. The encoder's name may change
        if its fingerprint does not.

        Raises:
            EncoderMismatchError: The index holds vectors of another encoder.
        """
        with write_transaction(self._engine) as connection:
            _write_identity(connection, identity)

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
            sources = read_sources(as_read_connection(connection))
            for source in sources:
                if source.uri != uri:
                    continue
                if source.kind != kind:
                    raise SourceError(
                        f"{display_path(uri)} is already indexed as {source.kind!r}.",
                        f"Leave out the kind, or remove the source {source.name!r} first.",
                    )
                if source.choices != choices:
                    _set_choices(connection, source.id, choices)
                return replace(source, choices=choices)
            names = {source.name for source in sources}
            new_name = _check_name(name, names) or _unique_name(_strip_trailing_slash(uri), names)
            values = {"kind": kind, "name": new_name, "uri": uri, "choices": dict(choices)}
            source_id = _insert_row(connection, insert(SOURCES).values(values))
        self._record_roots()
        return SourceRecord(source_id, kind, new_name, uri, choices)

    def set_choices(self, source_id: int, choices: Mapping[str, Any]) -> None:
        """Replace the choices of a source, so that the next run looks through all of it."""
        with write_transaction(self._engine) as connection:
            _set_choices(connection, source_id, choices)
        self._record_roots()

    def remove_source(self, source_id: int) -> int:
        """Remove a source and its assets; return the number of assets that had a picture.

        Pictures without other assets are deleted; their vectors stay until compaction.
        """
        with write_transaction(self._engine) as connection:
            db = as_read_connection(connection)
            statement = "SELECT count(content_id) FROM assets WHERE source_id = ?"
            ((removed,),) = db.query(statement, [source_id])
            connection.execute(delete(ASSETS).where(ASSETS.c.source_id == source_id))
            connection.execute(delete(SOURCES).where(SOURCES.c.id == source_id))
            last_run = SETTINGS.c.key == f"{LAST_RUN_KEY}{source_id}"
            connection.execute(delete(SETTINGS).where(last_run))
            merge_changed_metadata(connection)
            add_generation(connection)
        self._record_roots()
        return int(removed)

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
        path = _strip_trailing_slash(path)
        with write_transaction(self._engine) as connection:
            roots = {root.name: root for root in read_roots(as_read_connection(connection))}
            if name not in roots:
                known_names = ", ".join(roots) or "none"
                raise UnknownNameError(
                    f"There is no root named {name!r}.", f"Known: {known_names}."
                )
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
                _move_choices(connection, old, path)
                _move_table_paths(connection, old.path, path)
                add_generation(connection)
        self._record_roots()
        return moved

    def _record_roots(self) -> None:
        """Record the indexed folders and their choices in the checksum file, too."""
        checksum.mark_dirty(self._path, self._folders())

    def _folders(self) -> dict[bytes, Mapping[str, Any]]:
        """Return the paths of the indexed folders with their choices."""
        return {s.uri: s.choices for s in self.sources() if s.kind == FOLDER_KIND}

    # --- runs and shards ---

    def begin_run(self) -> int:
        """Record the start of a run and return its id."""
        statement = insert(RUNS).values(started_at=now(), outcome="running", counts={})
        with write_transaction(self._engine) as connection:
            return _insert_row(connection, statement)

    def finish_run(
        self, run_id: int, outcome: str, counts: Mapping[str, int], source_id: int | None = None
    ) -> None:
        """Record the end of a run, and of which source, and its outcome."""
        end = {"finished_at": now(), "outcome": outcome}
        statement = update(RUNS).where(RUNS.c.id == run_id)
        with write_transaction(self._engine) as connection:
            connection.execute(statement.values(**end, counts=dict(counts)))
            if source_id is not None:
                row = {"key": f"{LAST_RUN_KEY}{source_id}", "value": end}
                connection.execute(insert(SETTINGS).prefix_with("OR REPLACE"), row)

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
            connection.exec_driver_sql(f"DELETE FROM parts WHERE {condition}", tuple(values))  # noqa: S608
            insert_rows(connection, PARTS, rows)

    def save_skipped(
        self, root_id: int, changed: Sequence[SkippedFile], removed: Sequence[bytes]
    ) -> None:
        """Write files of a root that are not read, and delete those of other paths."""
        upsert = insert(SKIPPED_FILES)
        new_values = {name: upsert.excluded[name] for name in ("size", "mtime_ns", "reason")}
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
            if removed:
                connection.execute(
                    delete(SKIPPED_FILES).where(
                        SKIPPED_FILES.c.source_id == root_id,
                        SKIPPED_FILES.c.key == bindparam("removed_key"),
                    ),
                    [{"removed_key": path} for path in removed],
                )
            if rows:
                connection.execute(
                    upsert.on_conflict_do_update(
                        index_elements=["source_id", "key"], set_=new_values
                    ),
                    rows,
                )

    def save_skipped_counts(
        self, root_id: int, subpath: bytes, counts: Sequence[tuple[str, str, int]]
    ) -> None:
        """Save the numbers of files of a folder that are not read, until any of them changes."""
        row = {"key": skipped_counts_key(root_id, subpath), "value": [list(c) for c in counts]}
        with write_transaction(self._engine) as connection:
            connection.execute(insert(SETTINGS).prefix_with("OR REPLACE"), row)

    def save_calibration(self, calibration: IndexCalibration) -> int:
        """Write the index's own calibration, and return the new generation."""
        row = {"key": CALIBRATION_KEY, "value": asdict(calibration)}
        with write_transaction(self._engine) as connection:
            connection.execute(insert(SETTINGS).prefix_with("OR REPLACE"), row)
            return add_generation(connection)

    def save_ctimes(self, root_id: int, ctimes: Mapping[bytes, int]) -> None:
        """Write the change times of files that earlier versions have read, by path."""
        with write_transaction(self._engine) as connection:
            connection.execute(
                update(ASSETS)
                .where(ASSETS.c.source_id == root_id, ASSETS.c.key == bindparam("asset_key"))
                .values(ctime_ns=bindparam("ctime")),
                [{"asset_key": path, "ctime": ctime_ns} for path, ctime_ns in ctimes.items()],
            )

    def commit_shard(self, shard: ShardCommit) -> int:
        """Write a shard, and add a generation if that changed any row; idempotent.

        Returns:
            Number of captions from tables that were removed.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        with write_transaction(self._engine) as connection:
            db = as_read_connection(connection)
            if not db.query("SELECT 1 FROM sources WHERE id = ?", [shard.root_id]):
                raise ValueError(f"there is no root {shard.root_id}")
            changes_before = db.connection.total_changes
            if shard.segment is None:
                if shard.pictures:
                    raise ValueError(f"{len(shard.pictures)} pictures without a segment")
            elif not has_segment(db, shard.segment):
                unused_ids = sorted(shard.unused_ids)
                add_segment(connection, shard.segment, shard.pictures, stale_ids=unused_ids)
            contents = find_contents(db, (placed.digest for placed in shard.indexed))
            removed = upsert_assets(connection, shard, contents)
            delete_assets(connection, shard)
            merge_changed_metadata(connection)
            affected_ids = {item_id for _, item_id in contents.values()}
            affected_ids |= {item.id for item in shard.pictures}
            clear_stale(connection, sorted(affected_ids))
            if db.connection.total_changes != changes_before:
                add_generation(connection)
        return removed

    def commit_new(self, shard: ShardCommit) -> None:
        """Write a shard of new pictures and new assets as `commit_shard` does, but faster.

        Args:
            shard: A shard of nothing else. The ids and contents of its pictures, and the keys of
                its assets, are not in the catalog.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        from mmsearch.catalog import bulk  # noqa: PLC0415 - only imports need it

        with write_transaction(self._engine) as connection:
            item_ids = bulk.insert_shard(connection, shard)
            merge_changed_metadata(connection)
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
                "SELECT id FROM items WHERE id > ? AND is_live = 1 AND NOT EXISTS"  # noqa: S608
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
                _write_identity(connection, identity)
            return _publish(connection, built)

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
                _discard_building(connection)
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
            state = BUILDING if building else SERVING
            add_segment(connection, segment, pictures, state, stale_ids=sorted(unused_ids))
            if building:
                connection.execute(text(_COPY_STALE_FLAGS), {"segment": segment.number})
            merge_changed_metadata(connection)
            clear_stale(connection, [item.id for item in pictures if not item.keep_texts])
            if not building:
                add_generation(connection)

    def discard_building(self) -> None:
        """Discard the space being built."""
        with write_transaction(self._engine) as connection:
            _discard_building(connection)

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
                f"SELECT id FROM items WHERE is_live = 1 AND id NOT IN ({in_space}) LIMIT 1"  # noqa: S608
            )
            if missing:
                raise ValueError(f"item {missing[0][0]} is not in the space being built")
            serving = SPACE_IN.format(SERVING)
            for statement in (
                # A content that loses an item is no longer known; see `delete_items`.
                "UPDATE contents SET digest = randomblob(32) WHERE id IN"  # noqa: S608
                f" (SELECT content_id FROM items WHERE id NOT IN ({in_space}))",
                f"DELETE FROM items WHERE id NOT IN ({in_space})",  # noqa: S608
                f"DELETE FROM embeddings WHERE space_id = {serving}",  # noqa: S608
                f"DELETE FROM segments WHERE space_id = {serving}",  # noqa: S608
                f"DELETE FROM spaces WHERE state = '{SERVING}'",  # noqa: S608
                f"UPDATE spaces SET state = '{SERVING}'",  # noqa: S608
            ):
                connection.execute(text(statement))
            delete_empty_contents(connection)
            _replace_identity(connection, identity)
            if built is None:
                add_generation(connection, None)
            else:
                _publish(connection, built)
            _delete_old_generations(connection)


# --- generations and identity ---


def add_generation(connection: Connection, built_id: int | EllipsisType | None = ...) -> int:
    """Add a generation and return its number.

    Args:
        connection: A connection in a transaction.
        built_id: Row of the built index, or None for none; by default that of the last generation.
    """
    if built_id is ...:
        latest = select(GENERATIONS.c.built_id).order_by(GENERATIONS.c.number.desc()).limit(1)
        built_id = connection.execute(latest).scalar()
    return _insert_row(connection, insert(GENERATIONS).values(created_at=now(), built_id=built_id))


def _publish(connection: Connection, built: BuiltVectorIndex) -> int:
    """Record a built index in a new generation, and return the generation's number."""
    statement = insert(BUILT_INDEXES).values(
        plugin=built.plugin_name,
        name=built.file_ref.name,
        bytes=built.file_ref.bytes,
        sha256=built.file_ref.sha256,
        rows=built.rows,
        covers=built.covers,
        settings=dict(built.settings),
    )
    return add_generation(connection, _insert_row(connection, statement))


def _delete_old_generations(connection: Connection) -> None:
    """Delete the rows of earlier generations and of their built indexes, whose files are gone."""
    for statement in (
        "DELETE FROM generations WHERE number < (SELECT max(number) FROM generations)",
        "DELETE FROM built_indexes"
        " WHERE id NOT IN (SELECT built_id FROM generations WHERE built_id IS NOT NULL)",
    ):
        connection.execute(text(statement))


def _write_identity(connection: Connection, identity: Identity) -> None:
    """Write the identity of an index; the encoder can only change while it holds no vectors.

    Raises:
        EncoderMismatchError: The index holds vectors of an encoder with another fingerprint.
    """
    db = as_read_connection(connection)
    bound = read_identity(db)
    if (
        bound is not None
        and bound.encoder.fingerprint != identity.encoder.fingerprint
        and db.query("SELECT 1 FROM segments LIMIT 1")
    ):
        raise EncoderMismatchError(
            f"The index holds vectors of {bound.encoder.name}, which cannot be compared with"
            f" vectors of {identity.encoder.name}.",
            "Use the encoder of the index, or create another index.",
            bound=bound.encoder.name,
            asked=identity.encoder.name,
        )
    _replace_identity(connection, identity)
    if bound is not None and bound.texts != identity.texts:
        connection.execute(
            update(EMBEDDINGS).where(EMBEDDINGS.c.stale == 0).values(stale=TEXTS_CHANGED)
        )


def _replace_identity(connection: Connection, identity: Identity) -> None:
    """Write an identity without checking the encoder; the caller has replaced the vectors."""
    upsert = insert(SETTINGS)
    upsert = upsert.on_conflict_do_update(
        index_elements=["key"], set_={"value": upsert.excluded.value}
    )
    settings = to_settings(identity)
    connection.execute(upsert, [{"key": key, "value": value} for key, value in settings.items()])
    connection.execute(
        insert(SETTINGS).on_conflict_do_nothing(), {"key": "created_at", "value": now()}
    )
    connection.execute(
        insert(SPACES)
        .values(state=SERVING, encoder=identity.encoder.fingerprint)
        .on_conflict_do_update(
            index_elements=["state"], set_={"encoder": identity.encoder.fingerprint}
        )
    )


def _insert_row(connection: Connection, statement: Insert) -> int:
    """Insert one row and return its integer primary key."""
    # Do not use RETURNING: SQLite supports it only since 3.35.
    primary_key = connection.execute(statement).inserted_primary_key
    if primary_key is None:
        raise TypeError("the statement does not insert exactly one row")
    return int(primary_key[0])


def _discard_building(connection: Connection) -> None:
    for statement in (
        f"DELETE FROM embeddings WHERE space_id = {SPACE_IN.format(BUILDING)}",  # noqa: S608
        f"DELETE FROM segments WHERE space_id = {SPACE_IN.format(BUILDING)}",  # noqa: S608
        f"DELETE FROM spaces WHERE state = '{BUILDING}'",  # noqa: S608
    ):
        connection.execute(text(statement))


# --- roots ---


def ensure_root(connection: Connection, path: bytes, name: str | None = None) -> tuple[Root, bytes]:
    """Return the root that covers a folder, and the folder's path relative to it.

    If no root covers the folder, add it as a root, which absorbs the roots inside it.
    """
    path = _strip_trailing_slash(path)
    roots = read_roots(as_read_connection(connection))
    for root in roots:
        relative_path = relative_to(root.path, path)
        if relative_path is not None:
            return root, relative_path
    names = {source.name for source in read_sources(as_read_connection(connection))}
    name = _check_name(name, names) or _unique_name(path, names)
    values = {"kind": FOLDER_KIND, "name": name, "uri": path, "choices": {}}
    root_id = _insert_row(connection, insert(SOURCES).values(values))
    new_root = Root(root_id, name, path)
    if _absorb_roots(connection, new_root, roots):
        add_generation(connection)
    return new_root, b""


def _set_choices(connection: Connection, source_id: int, choices: Mapping[str, Any]) -> None:
    statement = update(SOURCES).where(SOURCES.c.id == source_id)
    connection.execute(statement.values(choices=dict(choices)))
    # Other choices may give other texts, and make items readable.
    connection.execute(delete(PARTS).where(PARTS.c.source_id == source_id))
    is_failed = (ASSETS.c.source_id == source_id) & ASSETS.c.content_id.is_(None)
    connection.execute(update(ASSETS).where(is_failed).values(stamp=None))


def _move_choices(connection: Connection, root: Root, path: bytes) -> None:
    """Set the path of a root, also where its choices name it."""
    sources = read_sources(as_read_connection(connection))
    (choices,) = (source.choices for source in sources if source.id == root.id)
    moved = FolderChoices.from_json(choices).move(root.path, path).to_json()
    statement = update(SOURCES).where(SOURCES.c.id == root.id)
    connection.execute(statement.values(uri=path, choices=moved))


def _move_table_paths(connection: Connection, old_folder: bytes, new_folder: bytes) -> None:
    """Update the stored paths of the caption tables below a moved root."""
    # b"0" is the byte after b"/": the bounds enclose all paths that start with old_folder + b"/".
    connection.execute(
        text(
            "UPDATE texts SET table_path = CAST(:new || substr(table_path, :start) AS BLOB)"
            " WHERE table_path > :first AND table_path < :end"
        ),
        {
            "new": new_folder,
            "start": len(old_folder) + 1,
            "first": old_folder + b"/",
            "end": old_folder + b"0",
        },
    )


def _strip_trailing_slash(path: bytes) -> bytes:
    """Return a path without trailing slashes."""
    return path.rstrip(b"/") or b"/"


def _check_name(name: str | None, used_names: set[str]) -> str | None:
    """Return the name of a new source.

    Raises:
        UsageError: Another source has it.
    """
    if name in used_names:
        raise UsageError(f"There is a source named {name!r} already.", "Choose another name.")
    return name


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
    choices = {
        source.id: FolderChoices.from_json(source.choices)
        for source in read_sources(as_read_connection(connection))
    }
    for inner in others:
        relative_path = relative_to(outer.path, inner.path)
        if relative_path is None:
            continue
        choices[outer.id] = choices[outer.id].absorb(relative_path, choices[inner.id])
        _absorb_files(connection, outer, inner, relative_path + b"/")
        connection.execute(delete(SOURCES).where(SOURCES.c.id == inner.id))
        has_absorbed = True
    if has_absorbed:
        statement = update(SOURCES).where(SOURCES.c.id == outer.id)
        connection.execute(statement.values(choices=choices[outer.id].to_json()))
    return has_absorbed


def _absorb_files(connection: Connection, outer: Root, inner: Root, prefix: bytes) -> None:
    """Move files from an inner root to an outer one; of duplicate paths keep the last read."""
    # SQLite's || returns text; the cast turns it back into the same bytes.
    for statement in (
        "DELETE FROM assets WHERE id IN"
        " (SELECT moved.id FROM assets AS moved JOIN assets AS present"
        " ON present.source_id = :outer AND present.key = CAST(:prefix || moved.key AS BLOB)"
        " WHERE moved.source_id = :inner AND present.checked_ns >= moved.checked_ns)",
        "DELETE FROM assets WHERE source_id = :outer AND key IN"
        " (SELECT CAST(:prefix || key AS BLOB) FROM assets WHERE source_id = :inner)",
        "UPDATE assets SET source_id = :outer, key = CAST(:prefix || key AS BLOB)"
        " WHERE source_id = :inner",
    ):
        connection.execute(
            text(statement), {"outer": outer.id, "inner": inner.id, "prefix": prefix}
        )
