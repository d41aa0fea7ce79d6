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
from mmsearch.catalog.snapshot import SqliteSnapshot, read_built
from mmsearch.catalog.sqlalchemy_engine import (
    copy_database,
    empty_wal,
    reading,
    rows_of,
    vacuum,
    writing,
)
from mmsearch.catalog.tables import StagedSegmentRow
from mmsearch.core.catalog import Snapshot
from mmsearch.core.records import (
    BuiltIndex,
    CarriedOver,
    EncodedPicture,
    FailedFile,
    Identity,
    KnownFile,
    KnownFolder,
    Root,
    Run,
    Segment,
    ShardCommit,
    StoredPicture,
)
from mmsearch.core.types import EncoderSpec, Ids
from mmsearch.storage.failpoints import FaultPoint, reach


class SqliteCatalog:
    """See `mmsearch.core.catalog.Catalog`. May be used by several threads.

    Args:
        engine: From `open_engine`, with the newest schema. Disposed of by `close`.
        sealed: The database, if `close` shall seal it: a writer's.
    """

    def __init__(self, engine: Engine, sealed: Path | None = None) -> None:
        self._engine = engine
        self._sealed = sealed

    def identity(self) -> Identity | None:
        """What the index is bound to; None before its first run."""
        with reading(self._engine) as connection:
            return read_identity(rows_of(connection))

    def bind(self, identity: Identity) -> None:
        """Set the identity, or replace the part that may change.

        That is all but the encoder once there are vectors; a name may change if the fingerprint
        does not.

        Raises:
            EncoderMismatchError: There are vectors of another encoder.
        """
        with writing(self._engine) as connection:
            write_identity(connection, identity)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the newest generation for reading; it stays as it is until it is closed."""
        with reading(self._engine) as connection:
            yield SqliteSnapshot(rows_of(connection))

    def roots(self) -> list[Root]:
        """The folders that are indexed, oldest first."""
        with reading(self._engine) as connection:
            return roots.read_roots(connection)

    def ensure_root(self, path: bytes) -> tuple[Root, bytes]:
        """The root that covers ``path`` and the rest of the path below it (b"" for the root).

        A new root takes over the files of roots that lie inside it, and replaces those roots.

        Args:
            path: Absolute and normal (no ``..``), as the file system's bytes.
        """
        with writing(self._engine) as connection:
            found = roots.ensure_root(connection, path)
        self._seal_roots()
        return found

    def move_root(self, name: str, path: bytes) -> Root:
        """Point a root at another folder; roots that lie inside that folder are taken over.

        Raises:
            UnknownNameError: There is no root of that name.
            SourceError: Another root covers the folder already.
        """
        with writing(self._engine) as connection:
            moved = roots.move_root(connection, name, path)
        self._seal_roots()
        return moved

    def _seal_roots(self) -> None:
        """Say in the seal, too, where the pictures are."""
        if self._sealed is not None:
            folders = [root.path for root in self.roots()]
            checksum.open_seal(self._sealed, folders)

    def known_files(
        self, root_id: int, below: bytes, passed: Container[bytes] = ()
    ) -> dict[bytes, KnownFile]:
        """The files of a root whose relative path is ``below`` or lies beneath it.

        Args:
            root_id: The root.
            below: Relative to it; b"" for all of it.
            passed: Folders whose own files are left out.
        """
        with reading(self._engine) as connection:
            return file_state.known_files(connection, root_id, below, passed)

    def files_in(self, root_id: int, folder: bytes) -> dict[bytes, KnownFile]:
        """The files of a root that lie in a folder itself, not beneath it."""
        with reading(self._engine) as connection:
            return file_state.files_in(connection, root_id, folder)

    def count_files(self, root_id: int, below: bytes) -> int:
        """How many files `known_files` finds."""
        with reading(self._engine) as connection:
            return file_state.count_files(connection, root_id, below)

    def known_folders(self, root_id: int, below: bytes) -> dict[bytes, KnownFolder]:
        """The folders at ``below`` or beneath it in which a run found nothing left to do."""
        with reading(self._engine) as connection:
            return file_state.known_folders(connection, root_id, below)

    def remember_folders(
        self, root_id: int, below: bytes, folders: Mapping[bytes, KnownFolder]
    ) -> None:
        """Put folders, by path, in the place of all `known_folders`.

        They are forgotten as soon as any file of the root changes.
        """
        with writing(self._engine) as connection:
            file_state.remember_folders(connection, root_id, below, folders)

    def images_of(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """The ids of contents that have a vector, alive or not."""
        with reading(self._engine) as connection:
            return commits.images_of(connection, digests)

    def next_numbers(self) -> tuple[int, int]:
        """The first free picture id and the first free segment number."""
        with reading(self._engine) as connection:
            return commits.next_numbers(connection)

    def captioned_files(self, root_id: int, below: bytes, table: bytes) -> frozenset[bytes]:
        """Return the paths of `known_files` for which captions of a table are stored."""
        with reading(self._engine) as connection:
            return file_state.captioned_files(connection, root_id, below, table)

    def commit_shard(self, shard: ShardCommit) -> int:
        """One transaction, one new generation; committing the same shard twice changes nothing.

        Returns:
            How many captions that tables had given to files were removed.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        with writing(self._engine) as connection:
            return commits.commit_shard(connection, shard)

    def living(self, after: int, limit: int) -> list[StoredPicture]:
        """Pictures that can be found, whose id is higher than ``after``, by id."""
        with reading(self._engine) as connection:
            return texts.living_pictures(connection, after, limit)

    def retold(self, limit: int) -> list[StoredPicture]:
        """Those whose vectors are of other texts than they have, by id."""
        with writing(self._engine) as connection:
            return texts.retold_pictures(connection, limit)

    def superseded(self) -> Ids:
        """Former ids of pictures, which will never be found again; ascending."""
        with reading(self._engine) as connection:
            return np.array(texts.superseded_ids(connection), dtype=np.int64)

    def segments(self) -> list[Segment]:
        """All segments, oldest first."""
        with reading(self._engine) as connection:
            return read_segments(connection)

    def publish(self, built: BuiltIndex, identity: Identity | None = None) -> int:
        """Make a built index the one that readers use; returns the generation.

        With an identity, in the same transaction, also that: vectors fused otherwise.
        """
        with writing(self._engine) as connection:
            if identity is not None:
                write_identity(connection, identity)
            return generations.publish(connection, built)

    # --- segments that take the place of all others ---

    def stage(
        self, segment: Segment, encoder: EncoderSpec, pictures: Sequence[EncodedPicture]
    ) -> None:
        """Note a segment that readers do not see yet, and whose vectors it holds."""
        with writing(self._engine) as connection:
            staging.stage(connection, segment, encoder.fingerprint, pictures)

    def staged(self) -> list[Segment]:
        """What is staged, oldest first."""
        with reading(self._engine) as connection:
            return read_segments(connection, StagedSegmentRow)

    def unstage(self) -> None:
        """Forget what is staged."""
        with writing(self._engine) as connection:
            staging.unstage(connection)

    def unstaged(self, after: int, limit: int) -> list[StoredPicture]:
        """Pictures that can be found and are in no staged segment, by id."""
        with reading(self._engine) as connection:
            return staging.unstaged_pictures(connection, after, limit)

    def adopt(
        self, built: BuiltIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Put the staged segments in the place of all others, in one transaction.

        Raises:
            ValueError: A picture that can be found is neither staged nor unreadable; a bug.
        """
        with writing(self._engine) as connection:
            staging.adopt(connection, built, identity, unreadable)

    def staged_encoder(self) -> str | None:
        """The fingerprint of the encoder of what is staged; None if nothing is."""
        with reading(self._engine) as connection:
            return staging.staged_encoder(connection)

    def pictures_of(self, number: int) -> list[StoredPicture]:
        """The pictures of a segment that can be found, by id."""
        with reading(self._engine) as connection:
            return staging.pictures_of(connection, number)

    def restore_segment(self, segment: Segment, pictures: Sequence[EncodedPicture]) -> None:
        """Take up a segment of a lost catalog again."""
        with writing(self._engine) as connection:
            staging.restore_segment(connection, segment, pictures)

    def segment_ids(self, number: int) -> Ids:
        """The pictures whose vectors stand in a segment; ascending."""
        with reading(self._engine) as connection:
            return np.array(staging.ids_of(connection, number), dtype=np.int64)

    def forget_segment(self, number: int) -> None:
        """Drop a segment and its pictures; their files will be tried again."""
        with writing(self._engine) as connection:
            staging.forget_segment(connection, number)

    def withdraw_built(self) -> None:
        """A generation without a built index."""
        with writing(self._engine) as connection:
            staging.withdraw_built(connection)

    # --- looking after it ---

    def shrink(self) -> None:
        """Give the room of deleted rows back (VACUUM)."""
        vacuum(self._engine)

    def copy_to(self, path: Path) -> None:
        """Write one state of the catalog to another file, durably, also while a writer works."""
        copy_database(self._engine, path)

    def findings(self) -> Iterator[str]:
        """Yield what is proved to be wrong with the catalog, a sentence each."""
        with reading(self._engine) as connection:
            yield from integrity.findings(rows_of(connection))

    def carry_over(self, damaged: Path, sealed_roots: Sequence[bytes]) -> CarriedOver:
        """Take over every row of a damaged catalog that can be read: roots, files, texts, runs.

        Raises:
            InspectionError: It cannot be read for another reason than damage.
        """
        with closing(salvage.DamagedCatalog(damaged)) as source:
            return salvage.carry_over(source, self._engine, sealed_roots)

    def attach_texts(self) -> None:
        """Give texts of tables whose files were lost to a file of the same picture."""
        with writing(self._engine) as connection:
            salvage.attach_texts(connection)

    def unfinished_roots(self) -> list[int]:
        """Return the ids of the roots whose folders a repair has yet to look through."""
        with reading(self._engine) as connection:
            return salvage.unfinished_roots(connection)

    def note_unfinished_roots(self, ids: Sequence[int]) -> None:
        """Write down the roots whose folders a repair has yet to look through."""
        with writing(self._engine) as connection:
            salvage.note_unfinished_roots(connection, ids)

    def mend(self) -> None:
        """Make what is derived within the catalog again: B-tree indexes and full-text tables."""
        with writing(self._engine) as connection:
            integrity.mend(connection)

    def failures(self) -> list[FailedFile]:
        """The files that could not be read, by path."""
        with reading(self._engine) as connection:
            return file_state.failed_files(connection)

    def begin_run(self) -> int:
        """Note that a run began; returns its id."""
        with writing(self._engine) as connection:
            return runs.begin_run(connection)

    def finish_run(self, run_id: int, outcome: str, counts: Mapping[str, int]) -> None:
        """Note how a run ended."""
        with writing(self._engine) as connection:
            runs.finish_run(connection, run_id, outcome, counts)

    def last_run(self) -> Run | None:
        """The run that began last; its outcome is ``running`` if nothing noted its end."""
        with reading(self._engine) as connection:
            return runs.last_run(connection)

    def file_count(self) -> int:
        """Paths of pictures that can be found."""
        with reading(self._engine) as connection:
            return file_state.count_found_files(connection)

    def referenced_files(self) -> set[str]:
        """Names of the segments, staged or not, and of the newest generation's built index."""
        with reading(self._engine) as connection:
            segments = read_segments(connection) + read_segments(connection, StagedSegmentRow)
            names = {segment.stamp.name for segment in segments}
            built = read_built(rows_of(connection))
        return names if built is None else names | {built.stamp.name}

    def close(self) -> None:
        """Close the connections; snapshots must have been closed before. A writer seals."""
        path, self._sealed = self._sealed, None
        if path is None:
            self._engine.dispose()
            return
        try:
            folders = [root.path for root in self.roots()]
            empty_wal(self._engine)
        finally:
            self._engine.dispose()
        reach(FaultPoint.CATALOG_CLOSED)
        checksum.close_seal(path, folders)
