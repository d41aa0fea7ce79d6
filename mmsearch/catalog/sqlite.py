"""The catalog on SQLite: one writer, many readers, every write one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, func, insert, or_, select, table, update
from sqlalchemy.sql import column

from mmsearch.catalog import commits, generations, migrations, roots, texts
from mmsearch.catalog.clock import now
from mmsearch.catalog.connections import open_engine, reading, writing
from mmsearch.catalog.identity import read_identity, write_identity
from mmsearch.catalog.snapshot import SqliteSnapshot, read_built, read_segments
from mmsearch.catalog.tables import FileRow, ImageRow, RootRow, RunRow, SegmentRow
from mmsearch.core.durable import TEMPORARY_SUFFIX, sync_folder
from mmsearch.core.protocols import Catalog, Snapshot
from mmsearch.core.records import (
    BuiltIndex,
    FailedFile,
    Identity,
    KnownFile,
    Root,
    Run,
    Segment,
    ShardCommit,
    StoredPicture,
)
from mmsearch.core.types import Ids


def open_catalog(path: Path, *, create: bool = False, read_only: bool = False) -> Catalog:
    """Open the catalog of an index.

    A writer (``read_only=False``) must hold the index's lock; it brings an older schema to the
    newest one. A reader needs no lock and changes nothing: it refuses an older schema. It works
    beside a writer, and in a folder that cannot be written.

    Args:
        path: The database.
        create: Make it if it is missing; only for a writer.
        read_only: Open it for reading only.

    Raises:
        DamagedFileError: The file is no SQLite database, no catalog, or damaged.
        SchemaError: Its schema is newer than this code, or older and ``read_only`` is set.
        StateError: It cannot be opened; a missing file is one such case.
    """
    if create and read_only:
        raise ValueError("a catalog that is only read cannot be created")
    if create and not path.exists():
        _create(path)
    engine = open_engine(path, create=False, read_only=read_only)
    try:
        if read_only:
            migrations.check_readable(engine, path)
        else:
            migrations.migrate(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return SqliteCatalog(engine)


def _create(path: Path) -> None:
    """Make an empty catalog under another name first: a reader meets a whole one or none."""
    unfinished = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    for suffix in ("", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    engine = open_engine(unfinished, create=True, read_only=False)
    try:
        migrations.migrate(engine, unfinished)
    finally:
        # The last connection to close moves everything from the -wal file into the database.
        engine.dispose()
    unfinished.replace(path)
    sync_folder(path.parent)


class SqliteCatalog:
    """See `mmsearch.core.protocols.Catalog`. May be used by several threads.

    Args:
        engine: From `open_engine`, with the newest schema. Disposed of by `close`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def identity(self) -> Identity | None:
        """What the index is bound to; None before its first run."""
        with reading(self._engine) as connection:
            return read_identity(connection)

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
            yield SqliteSnapshot(connection)

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
            return roots.ensure_root(connection, path)

    def move_root(self, name: str, path: bytes) -> Root:
        """Point a root at another folder; roots that lie inside that folder are taken over.

        Raises:
            UnknownNameError: There is no root of that name.
            SourceError: Another root covers the folder already.
        """
        with writing(self._engine) as connection:
            return roots.move_root(connection, name, path)

    def known_files(self, root_id: int, below: bytes) -> dict[bytes, KnownFile]:
        """The files of a root whose relative path is ``below`` or lies beneath it."""
        files = select(
            FileRow.path,
            FileRow.size,
            FileRow.mtime_ns,
            FileRow.checked_ns,
            FileRow.digest,
            FileRow.image_id,
            FileRow.error,
            FileRow.texts_key,
        ).where(FileRow.root_id == root_id)
        if below:
            # b"0" is the byte after b"/": the two bounds enclose what begins with below + b"/".
            beneath = (FileRow.path >= below + b"/") & (FileRow.path < below + b"0")
            files = files.where(or_(FileRow.path == below, beneath))
        with reading(self._engine) as connection:
            return {row[0]: KnownFile(*row) for row in connection.execute(files).all()}

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
        return (
            last.get(ImageRow.__tablename__, 0) + 1,
            last.get(SegmentRow.__tablename__, 0) + 1,
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

    def failures(self) -> list[FailedFile]:
        """The files that could not be read, by path."""
        failed = (
            select(RootRow.path, FileRow.path, FileRow.error)
            .join(RootRow, RootRow.id == FileRow.root_id)
            .where(FileRow.image_id.is_(None))
        )
        with reading(self._engine) as connection:
            found = [
                FailedFile(roots.below(root, path), reason or "")
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
        """Names of the segments, and of the built index of the newest generation."""
        with reading(self._engine) as connection:
            names = {segment.stamp.name for segment in read_segments(connection)}
            built = read_built(connection)
        return names if built is None else names | {built.stamp.name}

    def close(self) -> None:
        """Close the connections; snapshots must have been closed before."""
        self._engine.dispose()
