"""Opening, verifying, salvaging and replacing the catalog of an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmsearch.core.errors import (
    DamagedFileError,
    Hint,
    MissingExtraError,
    MMSearchError,
    SchemaError,
    StateError,
    UnknownIndexError,
)
from mmsearch.core.identity import Identity
from mmsearch.core.types import EncoderSpec
from mmsearch.storage.atomic import atomic_write, fsync_folder
from mmsearch.storage.failpoints import FailPoint, hit_failpoint
from mmsearch.storage.layout import IndexLayout, list_index_names

if TYPE_CHECKING:
    from mmsearch.catalog.postgres import PostgresPlace
    from mmsearch.core.catalog import CatalogReader
    from mmsearch.core.catalog_maintenance import CatalogMaintenance
    from mmsearch.core.protocols import Lock


def open_reader(layout: IndexLayout) -> CatalogReader:
    """Open the catalog of an index for reading; close it after use.

    A catalog of an earlier version is upgraded first.

    Raises:
        UnknownIndexError: There is no such index.
        SchemaError: It is of a newer version, or of an earlier one and cannot be written now.
    """
    _require_index(layout)
    try:
        return _open_newest(layout)
    except SchemaError:
        # The second attempt raises the error that explains why the first one failed.
        with suppress(MMSearchError, OSError), open_write(layout, 0, create=True):
            pass
        return _open_newest(layout)


def _open_newest(layout: IndexLayout) -> CatalogReader:
    place = _find_server(layout)
    if place is not None:
        from mmsearch.catalog.postgres_maintenance import (  # noqa: PLC0415 - costs psycopg
            open_postgres_reader,
        )

        return open_postgres_reader(place)
    from mmsearch.catalog import reader  # noqa: PLC0415 - not every command reads a catalog

    return reader.open_reader(layout.catalog)


def _find_server(layout: IndexLayout) -> PostgresPlace | None:
    """Return where the catalog of an index is on a server; None if it is a file.

    Raises:
        DependencyError: The driver of the server is not installed.
        StateError: The user has not named the server on this machine.
    """
    if not os.path.lexists(layout.places):
        return None
    from mmsearch.storage.places import (  # noqa: PLC0415 - few indexes have such a file
        describe_places,
        read_places,
    )

    # The servers of the other parts matter only to those who contact them.
    if describe_places(layout).catalog is None:
        return None
    return _parse_server_url(layout, read_places(layout).catalog or "")


def _parse_server_url(layout: IndexLayout, url: str) -> PostgresPlace:
    try:
        from mmsearch.catalog.postgres import parse_url  # noqa: PLC0415 - costs psycopg
    except ImportError as error:
        raise MissingExtraError.for_extra(
            "A catalog in PostgreSQL", "psycopg", "postgres"
        ) from error

    return parse_url(url, layout.catalog)


def drop_on_server(layout: IndexLayout) -> None:
    """Delete the catalog of an index with its schema if it is on a server."""
    place = _find_server(layout)
    if place is not None:
        from mmsearch.catalog.postgres_schema import drop  # noqa: PLC0415 - costs psycopg

        drop(place)


def reject_server(layout: IndexLayout, what: str) -> None:
    """Raise an error if the catalog of an index is on a server, for what only a file can have.

    Args:
        layout: File layout of the index.
        what: What is to be done, as a participle, such as ``backed up``.

    Raises:
        StateError: The catalog is on a server.
    """
    place = _find_server(layout)
    if place is not None:
        raise StateError(
            f"The catalog of index {layout.name!r} is in PostgreSQL: it cannot be {what} here.",
            f"Use pg_dump and pg_restore for the schema {place.schema!r}, and copy other files.",
        )


def open_read(layout: IndexLayout) -> AbstractContextManager[CatalogReader]:
    """Open the catalog of an index for reading, and close it at the end of the block.

    Raises:
        UnknownIndexError: There is no such index.
    """
    return closing(open_reader(layout))


def _require_index(layout: IndexLayout) -> None:
    layout.reject_links()
    if not layout.exists():
        raise UnknownIndexError(
            f"There is no index named {layout.name!r} in {layout.folder.parent}.",
            _other_indexes_hint(layout),
        )


def check_catalog_server(layout: IndexLayout, url: str) -> str:
    """Check that a server can have the catalog of a new index; return what was found there.

    Raises:
        DependencyError: The driver of the server is not installed.
        StorageError: The server cannot be reached or used.
        UsageError: It has a catalog of that name already.
    """
    place = _parse_server_url(layout, url)
    from mmsearch.catalog.postgres_schema import check_server  # noqa: PLC0415 - costs psycopg

    return check_server(place)


def is_on_server(layout: IndexLayout) -> bool:
    """Return True if the catalog of an index is on a server."""
    return _find_server(layout) is not None


def copy_to_file(layout: IndexLayout, catalog: CatalogReader, target: IndexLayout) -> None:
    """Copy one state of the catalog of an index to a file, also from a server.

    Args:
        layout: File layout of the index.
        catalog: Its catalog.
        target: Layout of the copy, which has no catalog yet.
    """
    place = _find_server(layout)
    if place is None:
        catalog.copy_to(target.catalog)
        return
    from mmsearch.catalog.postgres_copy import copy_to_file  # noqa: PLC0415 - costs psycopg

    copy_to_file(place, target.catalog)


def copy_to_server(
    copied: IndexLayout, target: IndexLayout, verify: Callable[[CatalogReader], None]
) -> None:
    """Copy a catalog in a file to that of an index, which is on a server.

    Args:
        copied: Layout of the copy, which nobody writes.
        target: Layout of the index, whose writer lock the caller holds.
        verify: Called with the new catalog before others see it; an error discards it.

    Raises:
        StateError: The catalog of the index is not on a server.
    """
    place = _find_server(target)
    if place is None:
        raise StateError(f"The catalog of index {target.name!r} is a file.", "Copy the file.")
    from mmsearch.catalog.postgres_copy import copy_to_postgres  # noqa: PLC0415 - costs psycopg

    copy_to_postgres(copied.catalog, place, verify)


@contextmanager
def open_write(
    layout: IndexLayout, wait_s: float, *, create: bool, source: tuple[str, bytes] | None = None
) -> Iterator[CatalogMaintenance]:
    """Open the catalog of an index for writing, under the writer lock.

    Args:
        layout: File layout of the index.
        wait_s: Seconds to wait for the lock.
        create: Create the index if it does not exist.
        source: Kind of the source to which the caller adds, and its URI or a folder in it: if the
            catalog is on a server, others may add to other sources at the same time. None if the
            caller needs the whole index.

    Raises:
        IndexLockedError: Another writer is active.
        UnknownIndexError: There is no such index, and ``create`` is False.
    """
    if not create:
        with open_read(layout):
            pass
    layout.create()
    with _open_under_lock(layout, wait_s, source) as catalog:
        if not layout.has_places():
            yield catalog
            return
        with _owned_store(layout, catalog):
            yield catalog
            from mmsearch.factories.search_servers import drop_unused_collections  # noqa: PLC0415 - few

            drop_unused_collections(layout, catalog)


@contextmanager
def _open_under_lock(
    layout: IndexLayout, wait_s: float, source: tuple[str, bytes] | None
) -> Iterator[CatalogMaintenance]:
    layout.reject_links()
    place = None if source is None else _find_server(layout)
    if place is None or source is None:
        with writer_lock(layout, wait_s), open_locked(layout, create=True) as catalog:
            yield catalog
        return
    from mmsearch.catalog.postgres_maintenance import (  # noqa: PLC0415 - costs SQLAlchemy
        open_postgres_run,
    )

    with open_postgres_run(place, layout.name, source, wait_s) as catalog:
        yield catalog


@contextmanager
def _owned_store(layout: IndexLayout, catalog: CatalogReader) -> Iterator[None]:
    """Check that the store belongs to the index, and note its newest generation at the end."""
    from mmsearch.storage.stored_files import check_owner, claim_store  # noqa: PLC0415 - few indexes

    generation = _generation(catalog)
    while True:
        try:
            check_owner(layout, generation)
            break
        except StateError:
            # Another run may have committed and noted a newer generation in between.
            newest = _generation(catalog)
            if newest == generation:
                raise
            generation = newest
    try:
        yield
    finally:
        newest = _generation(catalog)
        if newest != generation:
            # The note protects from older copies; what was committed is valid without it.
            with suppress(MMSearchError):
                claim_store(layout, newest)


def _generation(catalog: CatalogReader) -> int:
    with catalog.snapshot() as snapshot:
        return snapshot.generation


@contextmanager
def writer_lock(layout: IndexLayout, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the writer lock of an index: of the folder, or of the catalog if that is on a server.

    Args:
        layout: File layout of the index.
        wait_s: Maximum seconds to wait for another writer.

    Raises:
        IndexLockedError: Another writer holds the lock; the message names it.
    """
    place = _find_server(layout)
    if place is None:
        from mmsearch.storage.lock import writer_lock as folder_lock  # noqa: PLC0415 - not readers

        with folder_lock(layout, wait_s):
            yield
        return
    from mmsearch.catalog.postgres_lock import AdvisoryLock  # noqa: PLC0415 - costs psycopg

    lock: Lock = AdvisoryLock(place, layout.name)
    lock.acquire(wait_s)
    try:
        yield
    finally:
        lock.release()


def list_writers(layout: IndexLayout) -> tuple[str, ...]:
    """Return process, host and start of each active writer, if the catalog is on a server."""
    place = _find_server(layout)
    if place is None:
        return ()
    from mmsearch.catalog.postgres_lock import list_holders  # noqa: PLC0415 - costs psycopg

    return list_holders(place)


@contextmanager
def open_locked(layout: IndexLayout, *, create: bool = False) -> Iterator[CatalogMaintenance]:
    """Open the catalog of an index for writing, without taking the writer lock.

    The caller holds the lock, or is the only user of a copy.

    Args:
        layout: File layout of the index.
        create: Create the catalog if it does not exist.

    Raises:
        StateError: There are vectors but no catalog.
    """
    layout.reject_links()
    place = _find_server(layout)
    if place is not None:
        with _open_on_server(place, create=create) as catalog:
            yield catalog
        return
    from mmsearch.catalog.open import open_writer  # noqa: PLC0415 - costs SQLAlchemy

    if create and not layout.exists() and _has_files(layout):
        raise StateError(
            f"The catalog of index {layout.name!r} is missing, but its vectors are there.",
            Hint(
                "{} to rebuild the catalog without encoding.",
                "Call index.repair()",
                "Run 'mmsearch repair'",
            ),
        )
    catalog = open_writer(layout.catalog, create=create)
    try:
        yield catalog
    finally:
        catalog.close()


@contextmanager
def _open_on_server(place: PostgresPlace, *, create: bool) -> Iterator[CatalogMaintenance]:
    from mmsearch.catalog.postgres_maintenance import (  # noqa: PLC0415 - costs SQLAlchemy
        open_postgres_writer,
    )

    catalog = open_postgres_writer(place, create=create)
    try:
        yield catalog
    finally:
        catalog.close()


def _has_files(layout: IndexLayout) -> bool:
    if layout.files() or not layout.has_places():
        return bool(layout.files())
    from mmsearch.storage.stored_files import list_stored  # noqa: PLC0415 - few indexes

    return bool(list_stored(layout))


def open_snapshot(layout: IndexLayout) -> AbstractContextManager[CatalogReader]:
    """Open a read-only snapshot of the newest state of a catalog; writers do not change it.

    Raises:
        DamagedFileError: The catalog is damaged.
        MMSearchError: The catalog cannot be read; this does not prove damage.
    """
    layout.reject_links()
    place = _find_server(layout)
    if place is not None:
        from mmsearch.catalog.postgres_maintenance import (  # noqa: PLC0415 - costs psycopg
            open_pinned_postgres,
        )

        return closing(open_pinned_postgres(place))
    from mmsearch.catalog.reader import open_pinned_reader  # noqa: PLC0415 - only for checks

    return closing(open_pinned_reader(layout.catalog))


def is_checksum_valid(layout: IndexLayout) -> bool:
    """Return True if a catalog matches its checksum; False if it has no valid one now.

    There is no valid checksum while a writer is active, or after one was killed. A server checks
    its files by itself, so a catalog there counts as matching.

    Raises:
        DamagedFileError: The catalog does not match its checksum, or the checksum file is damaged.
    """
    from mmsearch.catalog.checksum import verify_checksum  # noqa: PLC0415

    layout.reject_links()
    return _find_server(layout) is not None or verify_checksum(layout.catalog)


def count_lost_commits(layout: IndexLayout) -> int:
    """Count the commits of a killed writer that cannot be read.

    After a power failure, one of them may be a commit that was never acknowledged; more than one
    means damage. No writer may be active.
    """
    from mmsearch.catalog.checksum import count_unreadable_commits  # noqa: PLC0415

    return count_unreadable_commits(layout.catalog)


@dataclass(frozen=True)
class SalvagedCatalog:
    """The parts of a damaged catalog that can still be read, without the rows of `recover_rows`.

    Attributes:
        settings: Settings of the index, by key.
        encoder: Encoder of the index, if the settings name it.
        building: Numbers of the segments of a space that was being built.
        checksum_roots: Indexed folders listed in the checksum file.
    """

    settings: Mapping[str, Any]
    encoder: EncoderSpec | None
    building: frozenset[int]
    checksum_roots: Mapping[bytes, Mapping[str, Any]]

    def identity(self, encoder: EncoderSpec, defaults: Identity) -> tuple[Identity, list[str]]:
        """Return the identity of the index, and the names of the settings that were lost.

        Args:
            encoder: The encoder of the vectors.
            defaults: Values for the settings that were lost.
        """
        from mmsearch.catalog.identity import recover_identity  # noqa: PLC0415

        return recover_identity(self.settings, encoder, defaults)


def salvage(layout: IndexLayout) -> SalvagedCatalog:
    """Return what can still be read of a damaged catalog.

    Raises:
        InspectionError: The catalog cannot be read for a reason other than damage.
    """
    # Imported here because only repairs need these.
    from mmsearch.catalog.checksum import read_checksum  # noqa: PLC0415
    from mmsearch.catalog.identity import recover_encoder  # noqa: PLC0415
    from mmsearch.catalog.salvage import (  # noqa: PLC0415
        DamagedCatalog,
        read_building,
        read_settings,
    )

    roots: Mapping[bytes, Mapping[str, Any]] = {}
    with suppress(DamagedFileError):
        seal = read_checksum(layout.catalog)
        roots = seal.roots if seal else {}
    with closing(DamagedCatalog(layout.catalog)) as damaged:
        settings, building = read_settings(damaged), read_building(damaged)
    return SalvagedCatalog(settings, recover_encoder(settings), frozenset(building), roots)


def replace_catalog(layout: IndexLayout, new_layout: IndexLayout) -> None:
    """Replace a damaged catalog by a new one; this can be repeated if it is interrupted.

    The new checksum file is written first: until the new database is in place, the old one does not
    match it.

    Args:
        layout: File layout of the index.
        new_layout: Layout of the new catalog, which is closed and has a checksum.

    Raises:
        StateError: The new catalog has no checksum, because there was no disk space for it.
    """
    from mmsearch.catalog.checksum import checksum_path, read_checksum  # noqa: PLC0415

    seal = read_checksum(new_layout.catalog) if new_layout.catalog.exists() else None
    if seal is None or seal.sha256 is None:
        raise StateError(
            "The new catalog could not be completed.", "Free disk space and run again."
        )
    with checksum_path(new_layout.catalog).open("rb") as file:
        atomic_write(checksum_path(layout.catalog), file.read())
    for suffix in ("-wal", "-shm", "-journal"):
        layout.catalog.with_name(layout.catalog.name + suffix).unlink(missing_ok=True)
    hit_failpoint(FailPoint.CATALOG_MADE)
    new_layout.catalog.replace(layout.catalog)
    hit_failpoint(FailPoint.CATALOG_NAMED)
    fsync_folder(layout.folder)


def is_replacement_unfinished(layout: IndexLayout, new_layout: IndexLayout) -> bool:
    """Return True if `replace_catalog` was killed before the new database was in place."""
    from mmsearch.catalog.checksum import checksum_path, read_checksum  # noqa: PLC0415

    new_layout.reject_links()
    if not new_layout.catalog.exists() or not checksum_path(new_layout.catalog).exists():
        return False
    try:
        new, current = read_checksum(new_layout.catalog), read_checksum(layout.catalog)
    except DamagedFileError:
        return False
    return new is not None and new.sha256 is not None and new == current


def drop_checksum(layout: IndexLayout) -> None:
    """Delete the checksum file; the next writer creates a new one."""
    from mmsearch.catalog.checksum import checksum_path  # noqa: PLC0415

    checksum_path(layout.catalog).unlink(missing_ok=True)


def _other_indexes_hint(layout: IndexLayout) -> Hint:
    others = list_index_names(layout.folder.parent)
    if others:
        return Hint(
            f"Existing indexes: {', '.join(others)}.{{}}", "", " Choose one with --index NAME."
        )
    return Hint(
        "Index a folder first: {}", "index.add_folder('./photos')", "mmsearch index ./photos"
    )


def identity_to_settings(identity: Identity) -> dict[str, Any]:
    """Return the settings of an index other than its encoder, as plain values."""
    from mmsearch.catalog.identity import to_settings  # noqa: PLC0415 - only for exports

    settings = to_settings(identity)
    return {key: settings[key] for key in ("fusion", "vector_index", "texts", "goals")}


def settings_to_identity(
    settings: Mapping[str, Any], encoder: EncoderSpec, defaults: Identity
) -> Identity:
    """Return the identity of `identity_to_settings`; invalid settings are those of ``defaults``."""
    from mmsearch.catalog.identity import recover_identity  # noqa: PLC0415 - only for imports

    return recover_identity(settings, encoder, defaults)[0]
