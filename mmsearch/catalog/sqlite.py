"""The catalog on SQLite: one writer, many readers, every write one transaction."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, func, insert, select, table, update
from sqlalchemy.sql import column

from mmsearch.catalog import (
    commits,
    generations,
    integrity,
    known,
    migrations,
    rewriting,
    roots,
    seal,
    texts,
)
from mmsearch.catalog.clock import now
from mmsearch.catalog.connections import (
    copy_database,
    empty_wal,
    open_engine,
    reading,
    rows_of,
    vacuum,
    writing,
)
from mmsearch.catalog.identity import read_identity, write_identity
from mmsearch.catalog.places import below
from mmsearch.catalog.segment_rows import read_segments
from mmsearch.catalog.snapshot import SqliteSnapshot, read_built
from mmsearch.catalog.tables import FileRow, ImageRow, RootRow, RunRow, SegmentRow, StagedSegmentRow
from mmsearch.catalog.wal import commits_passed_over
from mmsearch.core.catalog import Catalog, Snapshot
from mmsearch.core.durable import TEMPORARY_SUFFIX, sync_folder
from mmsearch.core.errors import DamagedFileError, StateError
from mmsearch.core.faults import FaultPoint, reach
from mmsearch.core.records import (
    BuiltIndex,
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


def open_catalog(
    path: Path, *, create: bool = False, read_only: bool = False, sealed: bool = True
) -> Catalog:
    """Open the catalog of an index.

    A writer (``read_only=False``) must hold the index's lock; it brings an older schema to the
    newest one. A reader needs no lock and changes nothing: it refuses an older schema. It works
    beside a writer, and in a folder that cannot be written.

    Args:
        path: The database.
        create: Make it if it is missing; only for a writer.
        read_only: Open it for reading only.
        sealed: Compare and make the seal of a writer; not for a passing copy.

    Raises:
        DamagedFileError: The file is no SQLite database, no catalog, or damaged.
        SchemaError: Its schema is newer than this code, or older and ``read_only`` is set.
        StateError: It cannot be opened; a missing file is one such case.
    """
    if create and read_only:
        raise ValueError("a catalog that is only read cannot be created")
    if create and not path.exists():
        _create(path)
    seals = sealed and not read_only
    before = _unsealed(path) if seals else None
    engine = open_engine(path, create=False, read_only=read_only)
    try:
        if read_only:
            with reading(engine) as connection:
                migrations.check_readable(rows_of(connection), path)
        else:
            migrations.migrate(engine, path)
    except BaseException:
        engine.dispose()
        if before is not None and before.sha256 is not None:
            seal.close_seal(path, before.roots)
        raise
    return SqliteCatalog(engine, path if seals else None)


def _unsealed(path: Path) -> seal.Seal | None:
    """Compare a catalog with its seal and open that; the seal as it was.

    Raises:
        DamagedFileError: It is not what the last writer left.
    """
    if not seal.check_seal(path) and commits_passed_over(path) > 1:
        raise DamagedFileError(
            f"{path}-wal is damaged: commits in it cannot be read.",
            "Run 'mmsearch repair': it makes the catalog again without encoding.",
        )
    before = seal.read_seal(path)
    seal.open_seal(path, before.roots if before else ())
    return before


def _create(path: Path) -> None:
    """Make an empty catalog under another name first: a reader meets a whole one or none."""
    unfinished = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    _remove_database(unfinished)
    try:
        engine = open_engine(unfinished, create=True, read_only=False)
        try:
            migrations.migrate(engine, unfinished)
        finally:
            # The last connection to close moves everything from the -wal file into the database.
            engine.dispose()
        _refuse_half(unfinished, path)
    except BaseException:
        with suppress(OSError):
            _remove_database(unfinished)
        raise
    reach(FaultPoint.CATALOG_MADE)
    unfinished.replace(path)
    seal.seal_path(path).unlink(missing_ok=True)
    reach(FaultPoint.CATALOG_NAMED)
    sync_folder(path.parent)


def _refuse_half(unfinished: Path, path: Path) -> None:
    """On a full disk the -wal file stays behind: the database beside it is not whole."""
    if unfinished.with_name(f"{unfinished.name}-wal").exists():
        raise StateError(f"{path} could not be written: is there no room left on the disk?")


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class SqliteCatalog:
    """See `mmsearch.core.protocols.Catalog`. May be used by several threads.

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
            seal.open_seal(self._sealed, folders)

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
            return known.known_files(connection, root_id, below, passed)

    def files_in(self, root_id: int, folder: bytes) -> dict[bytes, KnownFile]:
        """The files of a root that lie in a folder itself, not beneath it."""
        with reading(self._engine) as connection:
            return known.files_in(connection, root_id, folder)

    def count_files(self, root_id: int, below: bytes) -> int:
        """How many files `known_files` finds."""
        with reading(self._engine) as connection:
            return known.count_files(connection, root_id, below)

    def known_folders(self, root_id: int, below: bytes) -> dict[bytes, KnownFolder]:
        """The folders at ``below`` or beneath it in which a run found nothing left to do."""
        with reading(self._engine) as connection:
            return known.known_folders(connection, root_id, below)

    def remember_folders(
        self, root_id: int, below: bytes, folders: Mapping[bytes, KnownFolder]
    ) -> None:
        """Put folders, by path, in the place of all `known_folders`.

        They are forgotten as soon as any file of the root changes.
        """
        with writing(self._engine) as connection:
            known.remember_folders(connection, root_id, below, folders)

    def images_of(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """The ids of contents that have a vector, alive or not."""
        with reading(self._engine) as connection:
            return commits.images_of(connection, digests)

    def next_numbers(self) -> tuple[int, int]:
        """The first free picture id and the first free segment number."""
        # SQLite's own table of the highest number that each AUTOINCREMENT column ever had.
        sequence = table("sqlite_sequence", column("name"), column("seq"))
        with reading(self._engine) as connection:
            rows = connection.execute(select(sequence.c.name, sequence.c.seq))
            last: dict[str, int] = {row.name: row.seq for row in rows}
            staged = connection.execute(select(func.max(StagedSegmentRow.number))).scalar() or 0
        return (
            last.get(ImageRow.__tablename__, 0) + 1,
            max(last.get(SegmentRow.__tablename__, 0), staged) + 1,
        )

    def commit_shard(self, shard: ShardCommit) -> None:
        """One transaction, one new generation; committing the same shard twice changes nothing.

        Raises:
            ValueError: The shard contradicts itself or the catalog; a bug, not the user's fault.
        """
        with writing(self._engine) as connection:
            commits.commit_shard(connection, shard)

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
        former = select(ImageRow.id).where(ImageRow.superseded == 1).order_by(ImageRow.id)
        with reading(self._engine) as connection:
            return np.array(connection.execute(former).scalars().all(), dtype=np.int64)

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
            rewriting.stage(connection, segment, encoder.fingerprint, pictures)

    def staged(self) -> list[Segment]:
        """What is staged, oldest first."""
        with reading(self._engine) as connection:
            return read_segments(connection, StagedSegmentRow)

    def unstage(self) -> None:
        """Forget what is staged."""
        with writing(self._engine) as connection:
            rewriting.unstage(connection)

    def unstaged(self, after: int, limit: int) -> list[StoredPicture]:
        """Pictures that can be found and are in no staged segment, by id."""
        with reading(self._engine) as connection:
            return rewriting.unstaged_pictures(connection, after, limit)

    def adopt(
        self, built: BuiltIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Put the staged segments in the place of all others, in one transaction.

        Raises:
            ValueError: A picture that can be found is neither staged nor unreadable; a bug.
        """
        with writing(self._engine) as connection:
            rewriting.adopt(connection, built, identity, unreadable)

    def staged_encoder(self) -> str | None:
        """The fingerprint of the encoder of what is staged; None if nothing is."""
        with reading(self._engine) as connection:
            return connection.execute(select(StagedSegmentRow.encoder).limit(1)).scalar()

    def pictures_of(self, number: int) -> list[StoredPicture]:
        """The pictures of a segment that can be found, by id."""
        with reading(self._engine) as connection:
            return rewriting.pictures_of(connection, number)

    def restore_segment(self, segment: Segment, pictures: Sequence[EncodedPicture]) -> None:
        """Take up a segment of a lost catalog again."""
        with writing(self._engine) as connection:
            rewriting.restore_segment(connection, segment, pictures)

    def segment_ids(self, number: int) -> Ids:
        """The pictures whose vectors stand in a segment; ascending."""
        held = select(ImageRow.id).where(ImageRow.segment == number).order_by(ImageRow.id)
        with reading(self._engine) as connection:
            return np.array(connection.execute(held).scalars().all(), dtype=np.int64)

    def forget_segment(self, number: int) -> None:
        """Drop a segment and its pictures; their files will be tried again."""
        with writing(self._engine) as connection:
            rewriting.forget_segment(connection, number)

    def withdraw_built(self) -> None:
        """A generation without a built index."""
        with writing(self._engine) as connection:
            rewriting.withdraw_built(connection)

    # --- looking after it ---

    def shrink(self) -> None:
        """Give the room of deleted rows back (VACUUM)."""
        vacuum(self._engine)

    def copy_to(self, path: Path) -> None:
        """Write one state of the catalog to another file, durably, also while a writer works."""
        copy_database(self._engine, path)

    def findings(self) -> list[str]:
        """What is wrong with the catalog, a sentence each; [] for nothing."""
        return integrity.findings(self._engine)

    def mend(self) -> None:
        """Make what is derived within the catalog again: B-tree indexes and full-text tables."""
        with writing(self._engine) as connection:
            integrity.mend(connection)

    def failures(self) -> list[FailedFile]:
        """The files that could not be read, by path."""
        failed = (
            select(RootRow.path, FileRow.path, FileRow.error)
            .join(RootRow, RootRow.id == FileRow.root_id)
            .where(FileRow.image_id.is_(None))
        )
        with reading(self._engine) as connection:
            found = [
                FailedFile(below(root, path), reason or "")
                for root, path, reason in connection.execute(failed)
            ]
        return sorted(found, key=lambda file: file.path)

    def begin_run(self) -> int:
        """Note that a run began; returns its id."""
        run = insert(RunRow).values(started_at=now(), outcome="running", counts={})
        with writing(self._engine) as connection:
            return generations.inserted_id(connection, run)

    def finish_run(self, run_id: int, outcome: str, counts: Mapping[str, int]) -> None:
        """Note how a run ended."""
        end = update(RunRow).where(RunRow.id == run_id)
        with writing(self._engine) as connection:
            connection.execute(end.values(finished_at=now(), outcome=outcome, counts=dict(counts)))

    def last_run(self) -> Run | None:
        """The run that began last; its outcome is ``running`` if nothing noted its end."""
        newest = (
            select(RunRow.started_at, RunRow.finished_at, RunRow.outcome, RunRow.counts)
            .order_by(RunRow.id.desc())
            .limit(1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(newest).first()
        return None if row is None else Run(*row)

    def file_count(self) -> int:
        """Paths of pictures that can be found."""
        held = select(func.count()).select_from(FileRow).where(FileRow.image_id.is_not(None))
        with reading(self._engine) as connection:
            return int(connection.execute(held).scalar_one())

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
        seal.close_seal(path, folders)
