"""The catalog of an index: to be read, to be written, and in what state its last writer left it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from mmsearch.core.catalog import Catalog, Reader
from mmsearch.core.errors import DamagedFileError, StateError, UnknownIndexError
from mmsearch.core.records import Identity
from mmsearch.core.types import EncoderSpec
from mmsearch.storage.atomic import atomic_write, fsync_folder
from mmsearch.storage.failpoints import FailPoint, hit_failpoint
from mmsearch.storage.layout import IndexLayout, list_index_names
from mmsearch.storage.lock import writer_lock


@contextmanager
def open_read(layout: IndexLayout) -> Iterator[Catalog]:
    """The catalog of an index, for whoever changes nothing.

    Raises:
        UnknownIndexError: There is no such index.
    """
    from mmsearch.catalog.open import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    _require_index(layout)
    catalog = open_catalog(layout.catalog, read_only=True)
    try:
        yield catalog
    finally:
        catalog.close()


def open_reader(layout: IndexLayout) -> Reader:
    """The catalog of an index, for queries.

    Raises:
        UnknownIndexError: There is no such index.
    """
    from mmsearch.catalog import reader  # noqa: PLC0415 - only queries need it

    _require_index(layout)
    return reader.open_reader(layout.catalog)


def _require_index(layout: IndexLayout) -> None:
    layout.reject_links()
    if not layout.exists():
        raise UnknownIndexError(
            f"There is no index named {layout.name!r} in {layout.folder.parent}.",
            _other_indexes_hint(layout),
        )


@contextmanager
def open_write(layout: IndexLayout, wait_s: float, *, create: bool) -> Iterator[Catalog]:
    """The catalog of an index, under the writer's lock.

    Raises:
        IndexLockedError: Another writer is at work.
        UnknownIndexError: There is no such index and it shall not be made.
    """
    if not create:
        with open_read(layout):
            pass
    layout.create()
    with writer_lock(layout, wait_s), open_locked(layout, create=True) as catalog:
        yield catalog


@contextmanager
def open_locked(layout: IndexLayout, *, create: bool = False) -> Iterator[Catalog]:
    """The catalog of an index, for whoever holds the writer's lock or is alone with a copy.

    Raises:
        StateError: There are vectors, and no catalog.
    """
    from mmsearch.catalog.open import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    layout.reject_links()
    if create and not layout.exists() and layout.files():
        raise StateError(
            f"The catalog of index {layout.name!r} is missing, but its vectors are there.",
            "Run 'mmsearch repair': it makes the catalog again without encoding.",
        )
    catalog = open_catalog(layout.catalog, create=create)
    try:
        yield catalog
    finally:
        catalog.close()


@contextmanager
def open_snapshot(layout: IndexLayout) -> Iterator[Catalog]:
    """Open the newest state of a catalog for reading; it stays as it is, beside a writer too.

    Raises:
        DamagedFileError: The catalog is damaged.
        MMSearchError: It cannot be read, which proves nothing.
    """
    from mmsearch.catalog.open import open_pinned_catalog  # noqa: PLC0415 - costs SQLAlchemy

    layout.reject_links()
    catalog = open_pinned_catalog(layout.catalog)
    try:
        yield catalog
    finally:
        catalog.close()


def is_checksum_valid(layout: IndexLayout) -> bool:
    """Whether a catalog is what its last writer left; False if that one works or was killed.

    Raises:
        DamagedFileError: It is not.
    """
    from mmsearch.catalog.checksum import verify_checksum  # noqa: PLC0415

    layout.reject_links()
    return verify_checksum(layout.catalog)


def count_lost_commits(layout: IndexLayout) -> int:
    """Count the commits of a killed writer that cannot be read.

    After a power cut one may be the commit that was not acknowledged; more than one is damage. No
    writer may be at work.
    """
    from mmsearch.catalog.wal import count_unreadable_commits  # noqa: PLC0415

    return count_unreadable_commits(layout.catalog)


@dataclass(frozen=True)
class SalvagedCatalog:
    """The parts of a damaged catalog that can still be read, without the rows of `recover_rows`.

    Attributes:
        settings: By key.
        encoder: Of the index, if the settings name it.
        staged: Numbers of segments that wait to take the place of all others.
        checksum_roots: The folders that the seal names.
    """

    settings: Mapping[str, Any]
    encoder: EncoderSpec | None
    staged: frozenset[int]
    checksum_roots: tuple[bytes, ...]

    def identity(self, encoder: EncoderSpec, defaults: Identity) -> tuple[Identity, list[str]]:
        """Return what the index is bound to, and the settings that were lost.

        Args:
            encoder: The encoder of the vectors.
            defaults: What takes the place of the settings that are lost.
        """
        from mmsearch.catalog.identity import recover_identity  # noqa: PLC0415

        return recover_identity(self.settings, encoder, defaults)


def salvage(layout: IndexLayout) -> SalvagedCatalog:
    """Return what can still be read of a damaged catalog.

    Raises:
        InspectionError: It cannot be read for another reason than damage.
    """
    # Only repairs need these.
    from mmsearch.catalog.checksum import read_checksum  # noqa: PLC0415
    from mmsearch.catalog.identity import recover_encoder  # noqa: PLC0415
    from mmsearch.catalog.salvage import (  # noqa: PLC0415
        DamagedCatalog,
        read_settings,
        read_staged,
    )

    roots: tuple[bytes, ...] = ()
    with suppress(DamagedFileError):
        seal = read_checksum(layout.catalog)
        roots = seal.roots if seal else ()
    with closing(DamagedCatalog(layout.catalog)) as damaged:
        settings, staged = read_settings(damaged), read_staged(damaged)
    return SalvagedCatalog(settings, recover_encoder(settings), frozenset(staged), roots)


def replace_catalog(layout: IndexLayout, new_layout: IndexLayout) -> None:
    """Put a new catalog in the place of a damaged one; killed meanwhile, it can be done again.

    The seal of the new one comes first: until its database is there, the old one does not match.

    Args:
        layout: The index.
        new_layout: The new catalog's, closed and sealed.

    Raises:
        StateError: The new one has no seal: there was no room for it.
    """
    from mmsearch.catalog.checksum import checksum_path, read_checksum  # noqa: PLC0415

    seal = read_checksum(new_layout.catalog) if new_layout.catalog.exists() else None
    if seal is None or seal.sha256 is None:
        raise StateError("The new catalog could not be finished.", "Free some space on the disk.")
    with checksum_path(new_layout.catalog).open("rb") as file:
        atomic_write(checksum_path(layout.catalog), file.read())
    for suffix in ("-wal", "-shm", "-journal"):
        layout.catalog.with_name(layout.catalog.name + suffix).unlink(missing_ok=True)
    hit_failpoint(FailPoint.CATALOG_MADE)
    new_layout.catalog.replace(layout.catalog)
    hit_failpoint(FailPoint.CATALOG_NAMED)
    fsync_folder(layout.folder)


def is_replacement_unfinished(layout: IndexLayout, new_layout: IndexLayout) -> bool:
    """Return whether `replace_catalog` was killed before the new database got its place."""
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
    """Let the next writer make a new seal."""
    from mmsearch.catalog.checksum import checksum_path  # noqa: PLC0415

    checksum_path(layout.catalog).unlink(missing_ok=True)


def _other_indexes_hint(layout: IndexLayout) -> str:
    others = list_index_names(layout.folder.parent)
    if others:
        return f"There are: {', '.join(others)}. Choose one with --index NAME."
    return "Index a folder first: mmsearch index ./photos"
