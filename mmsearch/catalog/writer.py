"""Writing of a catalog: each method is one transaction, written with SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain, count
from pathlib import Path
from types import EllipsisType

from sqlalchemy import Connection, Engine, Insert, bindparam, delete, select, text, update
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog import checksum
from mmsearch.catalog.commits import (
    add_segment,
    delete_files,
    has_segment,
    insert_rows,
    mark_failed,
    segment_values,
    upsert_files,
)
from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S, ReadPool
from mmsearch.catalog.identity import CALIBRATION_KEY, read_identity, to_settings
from mmsearch.catalog.metadata import merge_changed_metadata
from mmsearch.catalog.reader import SKIPPED_COUNTS_KEY, SqliteReader, skipped_counts_key
from mmsearch.catalog.rows import (
    find_image_ids,
    load_pictures,
    now,
    read_roots,
    relative_to,
    storable,
    subtree_condition,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, checkpoint_wal, write_transaction
from mmsearch.catalog.tables import (
    BUILT_INDEXES,
    FILES,
    FOLDERS,
    GENERATIONS,
    IMAGES,
    ROOTS,
    RUNS,
    SETTINGS,
    SKIPPED_FILES,
    STAGED_IMAGES,
    STAGED_SEGMENTS,
)
from mmsearch.catalog.texts import clear_stale
from mmsearch.core.display import display_path
from mmsearch.core.errors import EncoderMismatchError, SourceError, UnknownNameError
from mmsearch.core.records import (
    BuiltVectorIndex,
    EncodedPicture,
    FolderRecord,
    Identity,
    IndexCalibration,
    Root,
    Segment,
    ShardCommit,
    SkippedFile,
    StoredPicture,
)
from mmsearch.core.types import EncoderSpec
from mmsearch.storage.failpoints import FailPoint, hit_failpoint


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
            folders = [root.path for root in self.roots()]
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

    def ensure_root(self, path: bytes) -> tuple[Root, bytes]:
        """Return the root that covers ``path``, and the path relative to it (b"" for the root).

        If no root covers the path, add it as a root. A new root takes over the files of the roots
        inside it, and replaces those roots.

        Args:
            path: Absolute, normalized path (no ``..``), as the file system's bytes.
        """
        with write_transaction(self._engine) as connection:
            root_and_path = ensure_root(connection, path)
        self._record_roots()
        return root_and_path

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
                connection.execute(update(ROOTS).where(ROOTS.c.id == old.id).values(path=path))
                _move_table_paths(connection, old.path, path)
                add_generation(connection)
        self._record_roots()
        return moved

    def _record_roots(self) -> None:
        """Record the indexed folders in the checksum file, too."""
        checksum.mark_dirty(self._path, [root.path for root in self.roots()])

    # --- runs and shards ---

    def begin_run(self) -> int:
        """Record the start of a run and return its id."""
        statement = insert(RUNS).values(started_at=now(), outcome="running", counts={})
        with write_transaction(self._engine) as connection:
            return _insert_row(connection, statement)

    def finish_run(self, run_id: int, outcome: str, counts: Mapping[str, int]) -> None:
        """Record the end of a run and its outcome."""
        statement = update(RUNS).where(RUNS.c.id == run_id)
        with write_transaction(self._engine) as connection:
            connection.execute(
                statement.values(finished_at=now(), outcome=outcome, counts=dict(counts))
            )

    def save_folder_states(
        self, root_id: int, subpath: bytes, folders: Mapping[bytes, FolderRecord]
    ) -> None:
        """Replace the stored states of all folders at or under ``subpath``.

        They are deleted as soon as any file of the root changes.
        """
        condition, values = subtree_condition(root_id, subpath)
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
        with write_transaction(self._engine) as connection:
            connection.exec_driver_sql(f"DELETE FROM folders WHERE {condition}", tuple(values))  # noqa: S608
            insert_rows(connection, FOLDERS, rows)

    def save_skipped(
        self, root_id: int, changed: Sequence[SkippedFile], removed: Sequence[bytes]
    ) -> None:
        """Write files of a root that are not read, and delete those of other paths."""
        upsert = insert(SKIPPED_FILES)
        new_values = {name: upsert.excluded[name] for name in ("size", "mtime_ns", "reason")}
        rows = [
            {
                "root_id": root_id,
                "path": file.path,
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
                        SKIPPED_FILES.c.root_id == root_id,
                        SKIPPED_FILES.c.path == bindparam("removed_path"),
                    ),
                    [{"removed_path": path} for path in removed],
                )
            if rows:
                connection.execute(
                    upsert.on_conflict_do_update(
                        index_elements=["root_id", "path"], set_=new_values
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
                update(FILES)
                .where(FILES.c.root_id == root_id, FILES.c.path == bindparam("file_path"))
                .values(ctime_ns=bindparam("ctime")),
                [{"file_path": path, "ctime": ctime_ns} for path, ctime_ns in ctimes.items()],
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
            if not db.query("SELECT 1 FROM roots WHERE id = ?", [shard.root_id]):
                raise ValueError(f"there is no root {shard.root_id}")
            changes_before = db.connection.total_changes
            if shard.segment is None:
                if shard.pictures:
                    raise ValueError(f"{len(shard.pictures)} pictures without a segment")
            elif not has_segment(db, shard.segment):
                add_segment(connection, shard.segment, shard.pictures)
            image_ids = find_image_ids(db, (placed.digest for placed in shard.indexed))
            removed = upsert_files(connection, shard, image_ids)
            delete_files(connection, shard)
            merge_changed_metadata(connection)
            affected_ids = {*image_ids.values(), *(item.id for item in shard.pictures)}
            clear_stale(connection, sorted(affected_ids))
            if db.connection.total_changes != changes_before:
                add_generation(connection)
        return removed

    def stale_texts(self, limit: int) -> list[StoredPicture]:
        """Return live pictures whose vectors are of outdated texts, by id.

        Also clear the stale flags of pictures whose texts turn out to be unchanged.
        """
        statement = "SELECT id FROM images WHERE retell = 1 AND file_count > 0 ORDER BY id"
        with write_transaction(self._engine) as connection:
            db = as_read_connection(connection)
            clear_stale(connection, [image_id for (image_id,) in db.query(statement)])
            return load_pictures(
                db, [image_id for (image_id,) in db.query(f"{statement} LIMIT ?", [limit])]
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

    # --- staged segments, which replace all others at once ---
    #
    # They are staged one after another, beside those that readers use, and activated in one
    # transaction. So compaction and a change of the encoder are invisible until they are complete,
    # and the process may be killed at any time.

    def stage_segment(
        self, segment: Segment, encoder: EncoderSpec, pictures: Sequence[EncodedPicture]
    ) -> None:
        """Record a staged segment, which readers do not see yet, and its pictures."""
        values = {**segment_values(segment), "encoder": encoder.fingerprint}
        rows = [
            {"image_id": item.id, "segment": segment.number, "texts_digest": item.texts_digest}
            for item in pictures
        ]
        with write_transaction(self._engine) as connection:
            connection.execute(insert(STAGED_SEGMENTS), values)
            insert_rows(connection, STAGED_IMAGES, rows)

    def discard_staged(self) -> None:
        """Delete the rows of all staged segments."""
        with write_transaction(self._engine) as connection:
            _discard_staged(connection)

    def activate_staged(
        self, built: BuiltVectorIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Replace all segments by the staged ones, and delete the pictures that are not staged.

        Args:
            built: Vector index of the staged segments; None if there is nothing to index.
            identity: The new identity of the index.
            unreadable: Reasons by id of the pictures that could not be encoded; their files are
                marked as failed.

        Raises:
            ValueError: A live picture is neither staged nor unreadable (a bug).
        """
        with write_transaction(self._engine) as connection:
            for number, reason in unreadable.items():
                mark_failed(connection, [number], reason)
            missing = as_read_connection(connection).query(
                "SELECT id FROM images WHERE file_count > 0"
                " AND id NOT IN (SELECT image_id FROM staged_images) LIMIT 1"
            )
            if missing:
                raise ValueError(f"picture {missing[0][0]} is in no staged segment")
            for statement in (
                "DELETE FROM images WHERE id NOT IN (SELECT image_id FROM staged_images)",
                "INSERT INTO segments (number, name, bytes, sha256, rows, dim)"
                " SELECT number, name, bytes, sha256, rows, dim FROM staged_segments",
                "UPDATE images SET (segment, texts_digest) = (SELECT segment, texts_digest"
                " FROM staged_images WHERE image_id = images.id)",
                "DELETE FROM segments WHERE number NOT IN (SELECT number FROM staged_segments)",
            ):
                connection.execute(text(statement))
            _discard_staged(connection)
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
        connection.execute(update(IMAGES).where(IMAGES.c.file_count > 0).values(retell=1))


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


def _insert_row(connection: Connection, statement: Insert) -> int:
    """Insert one row and return its integer primary key."""
    # Do not use RETURNING: SQLite supports it only since 3.35.
    primary_key = connection.execute(statement).inserted_primary_key
    if primary_key is None:
        raise TypeError("the statement does not insert exactly one row")
    return int(primary_key[0])


def _discard_staged(connection: Connection) -> None:
    connection.execute(delete(STAGED_IMAGES))
    connection.execute(delete(STAGED_SEGMENTS))


# --- roots ---


def ensure_root(connection: Connection, path: bytes) -> tuple[Root, bytes]:
    """Return the root that covers a folder, and the folder's path relative to it.

    If no root covers the folder, add it as a root, which absorbs the roots inside it.
    """
    path = _strip_trailing_slash(path)
    roots = read_roots(as_read_connection(connection))
    for root in roots:
        relative_path = relative_to(root.path, path)
        if relative_path is not None:
            return root, relative_path
    name = _unique_name(path, {root.name for root in roots})
    root_id = _insert_row(connection, insert(ROOTS).values(name=name, path=path))
    new_root = Root(root_id, name, path)
    if _absorb_roots(connection, new_root, roots):
        add_generation(connection)
    return new_root, b""


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
    for inner in others:
        relative_path = relative_to(outer.path, inner.path)
        if relative_path is None:
            continue
        _absorb_files(connection, outer, inner, relative_path + b"/")
        connection.execute(delete(ROOTS).where(ROOTS.c.id == inner.id))
        has_absorbed = True
    return has_absorbed


def _absorb_files(connection: Connection, outer: Root, inner: Root, prefix: bytes) -> None:
    """Move files from an inner root to an outer one; of duplicate paths keep the last read."""
    # SQLite's || returns text; the cast turns it back into the same bytes.
    for statement in (
        "DELETE FROM files WHERE id IN (SELECT moved.id FROM files AS moved JOIN files AS present"
        " ON present.root_id = :outer AND present.path = CAST(:prefix || moved.path AS BLOB)"
        " WHERE moved.root_id = :inner AND present.checked_ns >= moved.checked_ns)",
        "DELETE FROM files WHERE root_id = :outer AND path IN"
        " (SELECT CAST(:prefix || path AS BLOB) FROM files WHERE root_id = :inner)",
        "UPDATE files SET root_id = :outer, path = CAST(:prefix || path AS BLOB)"
        " WHERE root_id = :inner",
    ):
        connection.execute(
            text(statement), {"outer": outer.id, "inner": inner.id, "prefix": prefix}
        )
