"""Opening a catalog: it is made, compared with its seal, and brought to the newest schema."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mmsearch.catalog import checksum, schema
from mmsearch.catalog.connection import refuse_journal
from mmsearch.catalog.sqlalchemy_engine import open_engine, open_state, reading, rows_of
from mmsearch.catalog.sqlite import SqliteCatalog
from mmsearch.catalog.wal import commits_passed_over
from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import DamagedFileError, DiskFullError
from mmsearch.core.files import create_file
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, sync_folder
from mmsearch.storage.failpoints import FaultPoint, reach


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
    refuse_journal(path)
    before = None if read_only else _unsealed(path)
    engine = open_engine(path, create=False, read_only=read_only)
    try:
        if read_only:
            with reading(engine) as connection:
                schema.check_readable(rows_of(connection), path)
        else:
            schema.migrate(engine, path)
            with reading(engine) as connection:
                schema.refuse_foreign_names(rows_of(connection))
    except BaseException:
        engine.dispose()
        if before is not None and before.sha256 is not None:
            checksum.close_seal(path, before.roots)
        raise
    return SqliteCatalog(engine, None if read_only else path)


def open_one_state(path: Path) -> Catalog:
    """Open the newest state of a catalog for reading; it stays as it is until it is closed.

    Writers go on beside it. Nothing is written, and no temporary file is made.

    Args:
        path: The database.

    Raises:
        DamagedFileError: The file is no SQLite database, no catalog, or damaged.
        SchemaError: Its schema is newer than this code, or older.
        StateError: It cannot be opened.
    """
    refuse_journal(path)
    engine = open_state(path)
    try:
        with reading(engine) as connection:
            schema.check_readable(rows_of(connection), path)
    except BaseException:
        engine.dispose()
        raise
    return SqliteCatalog(engine)


def _unsealed(path: Path) -> checksum.Seal | None:
    """Compare a catalog with its seal and open that; the seal as it was.

    Raises:
        DamagedFileError: It is not what the last writer left.
    """
    if not checksum.check_seal(path) and commits_passed_over(path) > 1:
        raise DamagedFileError(
            f"{path}-wal is damaged: commits in it cannot be read.",
            "Run 'mmsearch repair': it makes the catalog again without encoding.",
        )
    before = checksum.read_seal(path)
    checksum.open_seal(path, before.roots if before else ())
    return before


def _create(path: Path) -> None:
    """Make an empty catalog under another name first: a reader meets a whole one or none."""
    unfinished = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    _remove_database(unfinished)
    try:
        # SQLite would let everybody read what it creates; the files beside it take its permissions.
        create_file(unfinished).close()
        engine = open_engine(unfinished, create=False, read_only=False)
        try:
            schema.migrate(engine, unfinished)
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
    checksum.seal_path(path).unlink(missing_ok=True)
    reach(FaultPoint.CATALOG_NAMED)
    sync_folder(path.parent)


def _refuse_half(unfinished: Path, path: Path) -> None:
    """On a full disk the -wal file stays behind: the database beside it is not whole."""
    if unfinished.with_name(f"{unfinished.name}-wal").exists():
        raise DiskFullError(
            f"{path} could not be written whole: its disk is full, or it fails.",
            "Free some space, look at the system's log, and run again.",
        )


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
