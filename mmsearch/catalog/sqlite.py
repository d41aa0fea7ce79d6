"""The SQLite catalog: one writer, many readers, and one transaction for each write."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from mmsearch.catalog import (
    checksum,
    commits,
    file_state,
    generations,
    integrity,
    roots,
    runs,
    salvage,
    staging,
    texts,
)
from mmsearch.catalog.identity import read_identity, write_identity
from mmsearch.catalog.segment_rows import read_segments
from mmsearch.catalog.snapshot import SqliteSnapshot, read_built_index
from mmsearch.catalog.sqlalchemy_engine import (
    as_read_connection,
    backup_database,
    checkpoint_wal,
    read_transaction,
    vacuum,
    write_transaction,
)
from mmsearch.catalog.tables import StagedSegmentRow
from mmsearch.core.catalog import Snapshot
from mmsearch.core.records import (
    BuiltVectorIndex,
    EncodedPicture,
    FailedFile,
    FileRecord,
    FolderRecord,
    Identity,
    Root,
    RunRecord,
    SalvageResult,
    Segment,
    ShardCommit,
    StoredPicture,
)
from mmsearch.core.types import EncoderSpec, Ids
from mmsearch.storage.failpoints import FailPoint, hit_failpoint


class SqliteCatalog:
    """Implementation of `mmsearch.core.catalog.Catalog` on SQLite; thread-safe.

    Args:
        engine: Engine from `open_engine`, with the newest schema; `close` disposes of it.
        checksummed_path: The database, for a writer, whose `close` writes the checksum; None for
            a reader.
    """

    def __init__(self, engine: Engine, checksummed_path: Path | None = None) -> None:
        self._engine = engine
        self._checksummed_path = checksummed_path

    def identity(self) -> Identity | None:
        """Return the identity of the index; None before its first run."""
        with read_transaction(self._engine) as connection:
            return read_identity(as_read_connection(connection))

    def set_identity(self, identity: Identity) -> None:
        """Set the identity, or replace the part that may change.

        Once the index holds vectors, all but the encoder may change. The encoder's name may change
        if its fingerprint does not.

        Raises:
            EncoderMismatchError: The index holds vectors of another encoder.
        """
        with write_transaction(self._engine) as connection:
            write_identity(connection, identity)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the newest generation for reading; it does not change until it is closed."""
        with read_transaction(self._engine) as connection:
            yield SqliteSnapshot(as_read_connection(connection))

    def roots(self) -> list[Root]:
        """Return the indexed folders, oldest first."""
        with read_transaction(self._engine) as connection:
            return roots.read_roots(connection)

    def ensure_root(self, path: bytes) -> tuple[Root, bytes]:
        """Return the root that covers ``path``, and the path relative to it (b"" for the root).

        If no root covers the path, add it as a root. A new root takes over the files of the roots
        inside it, and replaces those roots.

        Args:
            path: Absolute, normalized path (no ``..``), as the file system's bytes.
        """
        with write_transaction(self._engine) as connection:
            root_and_path = roots.ensure_root(connection, path)
        self._record_roots()
        return root_and_path

    def move_root(self, name: str, path: bytes) -> Root:
        """Point a root at another folder and absorb the roots inside that folder.

        Raises:
            UnknownNameError: No root has that name.
            SourceError: Another root already covers the folder.
        """
        with write_transaction(self._engine) as connection:
            moved = roots.move_root(connection, name, path)
        self._record_roots()
        return moved

    def _record_roots(self) -> None:
        """Record the indexed folders in the checksum file, too."""
        if self._checksummed_path is not None:
            folders = [root.path for root in self.roots()]
            checksum.mark_dirty(self._checksummed_path, folders)

    def list_files_under(
        self, root_id: int, subpath: bytes, skip_folders: Container[bytes] = ()
    ) -> dict[bytes, FileRecord]:
        """Return the files of a root at or under ``subpath``, by relative path.

        Args:
            root_id: Id of the root.
            subpath: Path relative to the root; b"" for the whole root.
            skip_folders: Folders whose direct files are skipped.
        """
        with read_transaction(self._engine) as connection:
            return file_state.list_files_under(connection, root_id, subpath, skip_folders)

    def list_files_in(self, root_id: int, folder: bytes) -> dict[bytes, FileRecord]:
        """Return the files of a root directly in a folder, not in its subfolders."""
        with read_transaction(self._engine) as connection:
            return file_state.list_files_in(connection, root_id, folder)

    def count_files_under(self, root_id: int, subpath: bytes) -> int:
        """Return the number of files of a root at or under ``subpath``."""
        with read_transaction(self._engine) as connection:
            return file_state.count_files_under(connection, root_id, subpath)

    def load_folder_states(self, root_id: int, subpath: bytes) -> dict[bytes, FolderRecord]:
        """Return the folders at or under ``subpath`` in which a run found nothing left to do."""
        with read_transaction(self._engine) as connection:
            return file_state.load_folder_states(connection, root_id, subpath)

    def save_folder_states(
        self, root_id: int, subpath: bytes, folders: Mapping[bytes, FolderRecord]
    ) -> None:
        """Replace the stored states of all folders at or under ``subpath``.

        They are deleted as soon as any file of the root changes.
        """
        with write_transaction(self._engine) as connection:
            file_state.save_folder_states(connection, root_id, subpath, folders)

    def find_image_ids(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Return the picture ids of contents that have a vector, by digest, live or not."""
        with read_transaction(self._engine) as connection:
            return commits.find_image_ids(connection, digests)

    def next_free_ids(self) -> tuple[int, int]:
        """Return the first free picture id and the first free segment number."""
        with read_transaction(self._engine) as connection:
            return commits.next_free_ids(connection)

    def list_captioned_files(self, root_id: int, subpath: bytes, table: bytes) -> frozenset[bytes]:
        """Return the paths of `list_files_under` that have stored captions from a table."""
        with read_transaction(self._engine) as connection:
            return file_state.list_captioned_files(connection, root_id, subpath, table)

    def commit_shard(self, shard: ShardCommit) -> int:
        """Write a shard and a new generation in one transaction; idempotent.

        Returns:
            Number of captions from tables that were removed.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        with write_transaction(self._engine) as connection:
            return commits.commit_shard(connection, shard)

    def list_live_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Return live pictures with an id above ``after_id``, by id."""
        with read_transaction(self._engine) as connection:
            return texts.load_live_pictures(connection, after_id, limit)

    def stale_texts(self, limit: int) -> list[StoredPicture]:
        """Return live pictures whose vectors are of outdated texts, by id."""
        with write_transaction(self._engine) as connection:
            return texts.load_stale_pictures(connection, limit)

    def superseded_ids(self) -> Ids:
        """Return the superseded ids of pictures, which searches never return again; ascending."""
        with read_transaction(self._engine) as connection:
            return np.array(texts.superseded_ids(connection), dtype=np.int64)

    def segments(self) -> list[Segment]:
        """Return all segments, oldest first."""
        with read_transaction(self._engine) as connection:
            return read_segments(connection)

    def publish(self, built: BuiltVectorIndex, identity: Identity | None = None) -> int:
        """Make a built index the one that readers use, and return the new generation's number.

        If an identity is given, for vectors that were fused differently, write it in the same
        transaction.
        """
        with write_transaction(self._engine) as connection:
            if identity is not None:
                write_identity(connection, identity)
            return generations.publish(connection, built)

    # --- staged segments, which replace all others ---

    def stage_segment(
        self, segment: Segment, encoder: EncoderSpec, pictures: Sequence[EncodedPicture]
    ) -> None:
        """Record a staged segment, which readers do not see yet, and its pictures."""
        with write_transaction(self._engine) as connection:
            staging.stage_segment(connection, segment, encoder.fingerprint, pictures)

    def list_staged_segments(self) -> list[Segment]:
        """Return the staged segments, oldest first."""
        with read_transaction(self._engine) as connection:
            return read_segments(connection, StagedSegmentRow)

    def discard_staged(self) -> None:
        """Delete the rows of all staged segments."""
        with write_transaction(self._engine) as connection:
            staging.discard_staged(connection)

    def list_unstaged_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Return live pictures in no staged segment, with an id above ``after_id``, by id."""
        with read_transaction(self._engine) as connection:
            return staging.load_unstaged_pictures(connection, after_id, limit)

    def activate_staged(
        self, built: BuiltVectorIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Replace all segments by the staged ones, in one transaction.

        Raises:
            ValueError: A live picture is neither staged nor unreadable (a bug).
        """
        with write_transaction(self._engine) as connection:
            staging.activate_staged(connection, built, identity, unreadable)

    def staged_encoder(self) -> str | None:
        """Return the fingerprint of the staged segments' encoder; None if nothing is staged."""
        with read_transaction(self._engine) as connection:
            return staging.staged_encoder(connection)

    def list_segment_pictures(self, segment_number: int) -> list[StoredPicture]:
        """Return the live pictures of a segment, by id."""
        with read_transaction(self._engine) as connection:
            return staging.list_segment_pictures(connection, segment_number)

    def restore_segment(self, segment: Segment, pictures: Sequence[EncodedPicture]) -> None:
        """Add a segment of a lost catalog and its pictures."""
        with write_transaction(self._engine) as connection:
            staging.restore_segment(connection, segment, pictures)

    def segment_image_ids(self, segment_number: int) -> Ids:
        """Return the ids of the pictures whose vectors are in a segment; ascending."""
        with read_transaction(self._engine) as connection:
            return np.array(
                staging.load_segment_image_ids(connection, segment_number), dtype=np.int64
            )

    def drop_segment(self, segment_number: int) -> None:
        """Delete a segment and its pictures; the next run retries their files."""
        with write_transaction(self._engine) as connection:
            staging.drop_segment(connection, segment_number)

    def drop_built_index(self) -> None:
        """Add a generation without a built index."""
        with write_transaction(self._engine) as connection:
            staging.drop_built_index(connection)

    # --- maintenance ---

    def vacuum(self) -> None:
        """Free the space of deleted rows (VACUUM)."""
        vacuum(self._engine)

    def copy_to(self, path: Path) -> None:
        """Copy one state of the catalog to another file, durably, even while a writer is active."""
        backup_database(self._engine, path)

    def find_problems(self) -> Iterator[str]:
        """Yield one sentence for each confirmed problem of the catalog."""
        with read_transaction(self._engine) as connection:
            yield from integrity.find_problems(as_read_connection(connection))

    def recover_rows(self, damaged: Path, recorded_roots: Sequence[bytes]) -> SalvageResult:
        """Copy every readable row of a damaged catalog: roots, files, texts, runs.

        Raises:
            InspectionError: The damaged catalog cannot be read for a reason other than damage.
        """
        with closing(salvage.DamagedCatalog(damaged)) as damaged_catalog:
            return salvage.recover_rows(damaged_catalog, self._engine, recorded_roots)

    def reattach_texts(self) -> None:
        """Attach caption-table texts whose files were lost to a file of the same picture."""
        with write_transaction(self._engine) as connection:
            salvage.reattach_texts(connection)

    def load_unfinished_roots(self) -> list[int]:
        """Return the ids of the roots that a repair has yet to scan."""
        with read_transaction(self._engine) as connection:
            return salvage.load_unfinished_roots(connection)

    def save_unfinished_roots(self, ids: Sequence[int]) -> None:
        """Store the ids of the roots that a repair has yet to scan."""
        with write_transaction(self._engine) as connection:
            salvage.save_unfinished_roots(connection, ids)

    def rebuild_derived(self) -> None:
        """Rebuild the data derived within the catalog, such as B-tree and full-text indexes."""
        with write_transaction(self._engine) as connection:
            integrity.rebuild_derived(connection)

    def failures(self) -> list[FailedFile]:
        """Return the files that could not be read, sorted by path."""
        with read_transaction(self._engine) as connection:
            return file_state.failed_files(connection)

    def begin_run(self) -> int:
        """Record the start of a run and return its id."""
        with write_transaction(self._engine) as connection:
            return runs.begin_run(connection)

    def finish_run(self, run_id: int, outcome: str, counts: Mapping[str, int]) -> None:
        """Record the end of a run and its outcome."""
        with write_transaction(self._engine) as connection:
            runs.finish_run(connection, run_id, outcome, counts)

    def last_run(self) -> RunRecord | None:
        """Return the latest run; its outcome is ``running`` if no end was recorded."""
        with read_transaction(self._engine) as connection:
            return runs.last_run(connection)

    def file_count(self) -> int:
        """Return the number of files whose picture is indexed."""
        with read_transaction(self._engine) as connection:
            return file_state.count_indexed_files(connection)

    def referenced_files(self) -> set[str]:
        """Return the file names of all segments and of the newest generation's built index.

        Staged segments are included.
        """
        with read_transaction(self._engine) as connection:
            segments = read_segments(connection) + read_segments(connection, StagedSegmentRow)
            names = {segment.file_ref.name for segment in segments}
            built = read_built_index(as_read_connection(connection))
        return names if built is None else names | {built.file_ref.name}

    def close(self) -> None:
        """Close the connections; a writer also writes the checksum.

        All snapshots must be closed before.
        """
        path, self._checksummed_path = self._checksummed_path, None
        if path is None:
            self._engine.dispose()
            return
        try:
            folders = [root.path for root in self.roots()]
            checkpoint_wal(self._engine)
        finally:
            self._engine.dispose()
        hit_failpoint(FailPoint.CATALOG_CLOSED)
        checksum.mark_clean(path, folders)
