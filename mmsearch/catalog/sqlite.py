"""The catalog on SQLite: one writer, many readers, every write one transaction."""

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
    """See `mmsearch.core.catalog.Catalog`. May be used by several threads.

    Args:
        engine: From `open_engine`, with the newest schema. Disposed of by `close`.
        checksummed_path: The database, if `close` shall seal it: a writer's.
    """

    def __init__(self, engine: Engine, checksummed_path: Path | None = None) -> None:
        self._engine = engine
        self._checksummed_path = checksummed_path

    def identity(self) -> Identity | None:
        """What the index is bound to; None before its first run."""
        with read_transaction(self._engine) as connection:
            return read_identity(as_read_connection(connection))

    def set_identity(self, identity: Identity) -> None:
        """Set the identity, or replace the part that may change.

        That is all but the encoder once there are vectors; a name may change if the fingerprint
        does not.

        Raises:
            EncoderMismatchError: There are vectors of another encoder.
        """
        with write_transaction(self._engine) as connection:
            write_identity(connection, identity)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the newest generation for reading; it stays as it is until it is closed."""
        with read_transaction(self._engine) as connection:
            yield SqliteSnapshot(as_read_connection(connection))

    def roots(self) -> list[Root]:
        """The folders that are indexed, oldest first."""
        with read_transaction(self._engine) as connection:
            return roots.read_roots(connection)

    def ensure_root(self, path: bytes) -> tuple[Root, bytes]:
        """The root that covers ``path`` and the rest of the path below it (b"" for the root).

        A new root takes over the files of roots that lie inside it, and replaces those roots.

        Args:
            path: Absolute and normal (no ``..``), as the file system's bytes.
        """
        with write_transaction(self._engine) as connection:
            root_and_path = roots.ensure_root(connection, path)
        self._record_roots()
        return root_and_path

    def move_root(self, name: str, path: bytes) -> Root:
        """Point a root at another folder; roots that lie inside that folder are taken over.

        Raises:
            UnknownNameError: There is no root of that name.
            SourceError: Another root covers the folder already.
        """
        with write_transaction(self._engine) as connection:
            moved = roots.move_root(connection, name, path)
        self._record_roots()
        return moved

    def _record_roots(self) -> None:
        """Say in the seal, too, where the pictures are."""
        if self._checksummed_path is not None:
            folders = [root.path for root in self.roots()]
            checksum.mark_dirty(self._checksummed_path, folders)

    def list_files_under(
        self, root_id: int, subpath: bytes, skip_folders: Container[bytes] = ()
    ) -> dict[bytes, FileRecord]:
        """The files of a root whose relative path is ``below`` or lies beneath it.

        Args:
            root_id: The root.
            subpath: Relative to it; b"" for all of it.
            skip_folders: Folders whose own files are left out.
        """
        with read_transaction(self._engine) as connection:
            return file_state.list_files_under(connection, root_id, subpath, skip_folders)

    def list_files_in(self, root_id: int, folder: bytes) -> dict[bytes, FileRecord]:
        """The files of a root that lie in a folder itself, not beneath it."""
        with read_transaction(self._engine) as connection:
            return file_state.list_files_in(connection, root_id, folder)

    def count_files_under(self, root_id: int, subpath: bytes) -> int:
        """How many files `list_files_under` finds."""
        with read_transaction(self._engine) as connection:
            return file_state.count_files_under(connection, root_id, subpath)

    def load_folder_states(self, root_id: int, subpath: bytes) -> dict[bytes, FolderRecord]:
        """The folders at ``below`` or beneath it in which a run found nothing left to do."""
        with read_transaction(self._engine) as connection:
            return file_state.load_folder_states(connection, root_id, subpath)

    def save_folder_states(
        self, root_id: int, subpath: bytes, folders: Mapping[bytes, FolderRecord]
    ) -> None:
        """Put folders, by path, in the place of all `load_folder_states`.

        They are forgotten as soon as any file of the root changes.
        """
        with write_transaction(self._engine) as connection:
            file_state.save_folder_states(connection, root_id, subpath, folders)

    def find_image_ids(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """The ids of contents that have a vector, alive or not."""
        with read_transaction(self._engine) as connection:
            return commits.find_image_ids(connection, digests)

    def next_free_ids(self) -> tuple[int, int]:
        """The first free picture id and the first free segment number."""
        with read_transaction(self._engine) as connection:
            return commits.next_free_ids(connection)

    def list_captioned_files(self, root_id: int, subpath: bytes, table: bytes) -> frozenset[bytes]:
        """Return the paths of `list_files_under` for which captions of a table are stored."""
        with read_transaction(self._engine) as connection:
            return file_state.list_captioned_files(connection, root_id, subpath, table)

    def commit_shard(self, shard: ShardCommit) -> int:
        """One transaction, one new generation; committing the same shard twice changes nothing.

        Returns:
            How many captions that tables had given to files were removed.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        with write_transaction(self._engine) as connection:
            return commits.commit_shard(connection, shard)

    def list_live_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Pictures that can be found, whose id is higher than ``after``, by id."""
        with read_transaction(self._engine) as connection:
            return texts.load_live_pictures(connection, after_id, limit)

    def stale_texts(self, limit: int) -> list[StoredPicture]:
        """Those whose vectors are of other texts than they have, by id."""
        with write_transaction(self._engine) as connection:
            return texts.load_stale_pictures(connection, limit)

    def superseded_ids(self) -> Ids:
        """Former ids of pictures, which will never be found again; ascending."""
        with read_transaction(self._engine) as connection:
            return np.array(texts.superseded_ids(connection), dtype=np.int64)

    def segments(self) -> list[Segment]:
        """All segments, oldest first."""
        with read_transaction(self._engine) as connection:
            return read_segments(connection)

    def publish(self, built: BuiltVectorIndex, identity: Identity | None = None) -> int:
        """Make a built index the one that readers use; returns the generation.

        With an identity, in the same transaction, also that: vectors fused otherwise.
        """
        with write_transaction(self._engine) as connection:
            if identity is not None:
                write_identity(connection, identity)
            return generations.publish(connection, built)

    # --- segments that take the place of all others ---

    def stage_segment(
        self, segment: Segment, encoder: EncoderSpec, pictures: Sequence[EncodedPicture]
    ) -> None:
        """Note a segment that readers do not see yet, and whose vectors it holds."""
        with write_transaction(self._engine) as connection:
            staging.stage_segment(connection, segment, encoder.fingerprint, pictures)

    def list_staged_segments(self) -> list[Segment]:
        """What is staged, oldest first."""
        with read_transaction(self._engine) as connection:
            return read_segments(connection, StagedSegmentRow)

    def discard_staged(self) -> None:
        """Forget what is staged."""
        with write_transaction(self._engine) as connection:
            staging.discard_staged(connection)

    def list_unstaged_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Pictures that can be found and are in no staged segment, by id."""
        with read_transaction(self._engine) as connection:
            return staging.load_unstaged_pictures(connection, after_id, limit)

    def activate_staged(
        self, built: BuiltVectorIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Put the staged segments in the place of all others, in one transaction.

        Raises:
            ValueError: A picture that can be found is neither staged nor unreadable; a bug.
        """
        with write_transaction(self._engine) as connection:
            staging.activate_staged(connection, built, identity, unreadable)

    def staged_encoder(self) -> str | None:
        """The fingerprint of the encoder of what is staged; None if nothing is."""
        with read_transaction(self._engine) as connection:
            return staging.staged_encoder(connection)

    def list_segment_pictures(self, segment_number: int) -> list[StoredPicture]:
        """The pictures of a segment that can be found, by id."""
        with read_transaction(self._engine) as connection:
            return staging.list_segment_pictures(connection, segment_number)

    def restore_segment(self, segment: Segment, pictures: Sequence[EncodedPicture]) -> None:
        """Take up a segment of a lost catalog again."""
        with write_transaction(self._engine) as connection:
            staging.restore_segment(connection, segment, pictures)

    def segment_image_ids(self, segment_number: int) -> Ids:
        """The pictures whose vectors stand in a segment; ascending."""
        with read_transaction(self._engine) as connection:
            return np.array(
                staging.load_segment_image_ids(connection, segment_number), dtype=np.int64
            )

    def drop_segment(self, segment_number: int) -> None:
        """Drop a segment and its pictures; their files will be tried again."""
        with write_transaction(self._engine) as connection:
            staging.drop_segment(connection, segment_number)

    def drop_built_index(self) -> None:
        """A generation without a built index."""
        with write_transaction(self._engine) as connection:
            staging.drop_built_index(connection)

    # --- looking after it ---

    def vacuum(self) -> None:
        """Give the room of deleted rows back (VACUUM)."""
        vacuum(self._engine)

    def copy_to(self, path: Path) -> None:
        """Write one state of the catalog to another file, durably, also while a writer works."""
        backup_database(self._engine, path)

    def find_problems(self) -> Iterator[str]:
        """Yield what is proved to be wrong with the catalog, a sentence each."""
        with read_transaction(self._engine) as connection:
            yield from integrity.find_problems(as_read_connection(connection))

    def recover_rows(self, damaged: Path, recorded_roots: Sequence[bytes]) -> SalvageResult:
        """Take over every row of a damaged catalog that can be read: roots, files, texts, runs.

        Raises:
            InspectionError: It cannot be read for another reason than damage.
        """
        with closing(salvage.DamagedCatalog(damaged)) as damaged_catalog:
            return salvage.recover_rows(damaged_catalog, self._engine, recorded_roots)

    def reattach_texts(self) -> None:
        """Give texts of tables whose files were lost to a file of the same picture."""
        with write_transaction(self._engine) as connection:
            salvage.reattach_texts(connection)

    def load_unfinished_roots(self) -> list[int]:
        """Return the ids of the roots whose folders a repair has yet to look through."""
        with read_transaction(self._engine) as connection:
            return salvage.load_unfinished_roots(connection)

    def save_unfinished_roots(self, ids: Sequence[int]) -> None:
        """Write down the roots whose folders a repair has yet to look through."""
        with write_transaction(self._engine) as connection:
            salvage.save_unfinished_roots(connection, ids)

    def rebuild_derived(self) -> None:
        """Make what is derived within the catalog again: B-tree indexes and full-text tables."""
        with write_transaction(self._engine) as connection:
            integrity.rebuild_derived(connection)

    def failures(self) -> list[FailedFile]:
        """The files that could not be read, by path."""
        with read_transaction(self._engine) as connection:
            return file_state.failed_files(connection)

    def begin_run(self) -> int:
        """Note that a run began; returns its id."""
        with write_transaction(self._engine) as connection:
            return runs.begin_run(connection)

    def finish_run(self, run_id: int, outcome: str, counts: Mapping[str, int]) -> None:
        """Note how a run ended."""
        with write_transaction(self._engine) as connection:
            runs.finish_run(connection, run_id, outcome, counts)

    def last_run(self) -> RunRecord | None:
        """The run that began last; its outcome is ``running`` if nothing noted its end."""
        with read_transaction(self._engine) as connection:
            return runs.last_run(connection)

    def file_count(self) -> int:
        """Paths of pictures that can be found."""
        with read_transaction(self._engine) as connection:
            return file_state.count_indexed_files(connection)

    def referenced_files(self) -> set[str]:
        """Names of the segments, staged or not, and of the newest generation's built index."""
        with read_transaction(self._engine) as connection:
            segments = read_segments(connection) + read_segments(connection, StagedSegmentRow)
            names = {segment.file_ref.name for segment in segments}
            built = read_built_index(as_read_connection(connection))
        return names if built is None else names | {built.file_ref.name}

    def close(self) -> None:
        """Close the connections; snapshots must have been closed before. A writer seals."""
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
