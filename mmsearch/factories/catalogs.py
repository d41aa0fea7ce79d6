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
from mmsearch.storage.atomic import publish_bytes, sync_folder
from mmsearch.storage.failpoints import FaultPoint, reach
from mmsearch.storage.layout import IndexLayout, index_names
from mmsearch.storage.lock import writer_lock


@contextmanager
def reading(layout: IndexLayout) -> Iterator[Catalog]:
    """The catalog of an index, for whoever changes nothing.

    Raises:
        UnknownIndexError: There is no such index.
    """
    from mmsearch.catalog.open import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    _refuse_unknown(layout)
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

    _refuse_unknown(layout)
    return reader.open_reader(layout.catalog)


def _refuse_unknown(layout: IndexLayout) -> None:
    layout.refuse_links()
    if not layout.exists():
        raise UnknownIndexError(
            f"There is no index named {layout.name!r} in {layout.folder.parent}.",
            _other_indexes(layout),
        )


@contextmanager
def writing(layout: IndexLayout, wait_s: float, *, create: bool) -> Iterator[Catalog]:
    """The catalog of an index, under the writer's lock.

    Raises:
        IndexLockedError: Another writer is at work.
        UnknownIndexError: There is no such index and it shall not be made.
    """
    if not create:
        with reading(layout):
            pass
    layout.create()
    with writer_lock(layout, wait_s), opened(layout, create=True) as catalog:
        yield catalog


@contextmanager
def opened(layout: IndexLayout, *, create: bool = False) -> Iterator[Catalog]:
    """The catalog of an index, for whoever holds the writer's lock or is alone with a copy.

    Raises:
        StateError: There are vectors, and no catalog.
    """
    from mmsearch.catalog.open import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    layout.refuse_links()
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
def one_state(layout: IndexLayout) -> Iterator[Catalog]:
    """Open the newest state of a catalog for reading; it stays as it is, beside a writer too.

    Raises:
        DamagedFileError: The catalog is damaged.
        MMSearchError: It cannot be read, which proves nothing.
    """
    from mmsearch.catalog.open import open_one_state  # noqa: PLC0415 - costs SQLAlchemy

    layout.refuse_links()
    catalog = open_one_state(layout.catalog)
    try:
        yield catalog
    finally:
        catalog.close()


def is_sealed(layout: IndexLayout) -> bool:
    """Whether a catalog is what its last writer left; False if that one works or was killed.

    Raises:
        DamagedFileError: It is not.
    """
    from mmsearch.catalog.checksum import check_seal  # noqa: PLC0415

    layout.refuse_links()
    return check_seal(layout.catalog)


def count_lost_commits(layout: IndexLayout) -> int:
    """Count the commits of a killed writer that cannot be read.

    After a power cut one may be the commit that was not acknowledged; more than one is damage. No
    writer may be at work.
    """
    from mmsearch.catalog.wal import commits_passed_over  # noqa: PLC0415

    return commits_passed_over(layout.catalog)


@dataclass(frozen=True)
class Salvage:
    """The parts of a damaged catalog that can still be read, without the rows of `carry_over`.

    Attributes:
        settings: By key.
        encoder: Of the index, if the settings name it.
        staged: Numbers of segments that wait to take the place of all others.
        sealed_roots: The folders that the seal names.
    """

    settings: Mapping[str, Any]
    encoder: EncoderSpec | None
    staged: frozenset[int]
    sealed_roots: tuple[bytes, ...]

    def identity(self, encoder: EncoderSpec, otherwise: Identity) -> tuple[Identity, list[str]]:
        """Return what the index is bound to, and the settings that were lost.

        Args:
            encoder: The encoder of the vectors.
            otherwise: What takes the place of the settings that are lost.
        """
        from mmsearch.catalog.identity import identity_from  # noqa: PLC0415

        return identity_from(self.settings, encoder, otherwise)


def salvage(layout: IndexLayout) -> Salvage:
    """Return what can still be read of a damaged catalog.

    Raises:
        InspectionError: It cannot be read for another reason than damage.
    """
    # Only repairs need these.
    from mmsearch.catalog.checksum import read_seal  # noqa: PLC0415
    from mmsearch.catalog.identity import encoder_from  # noqa: PLC0415
    from mmsearch.catalog.salvage import (  # noqa: PLC0415
        DamagedCatalog,
        read_settings,
        read_staged,
    )

    roots: tuple[bytes, ...] = ()
    with suppress(DamagedFileError):
        seal = read_seal(layout.catalog)
        roots = seal.roots if seal else ()
    with closing(DamagedCatalog(layout.catalog)) as damaged:
        settings, staged = read_settings(damaged), read_staged(damaged)
    return Salvage(settings, encoder_from(settings), frozenset(staged), roots)


def replace_catalog(layout: IndexLayout, fresh: IndexLayout) -> None:
    """Put a new catalog in the place of a damaged one; killed meanwhile, it can be done again.

    The seal of the new one comes first: until its database is there, the old one does not match.

    Args:
        layout: The index.
        fresh: The new catalog's, closed and sealed.

    Raises:
        StateError: The new one has no seal: there was no room for it.
    """
    from mmsearch.catalog.checksum import read_seal, seal_path  # noqa: PLC0415

    seal = read_seal(fresh.catalog) if fresh.catalog.exists() else None
    if seal is None or seal.sha256 is None:
        raise StateError("The new catalog could not be finished.", "Free some space on the disk.")
    with seal_path(fresh.catalog).open("rb") as file:
        publish_bytes(seal_path(layout.catalog), file.read())
    for suffix in ("-wal", "-shm", "-journal"):
        layout.catalog.with_name(layout.catalog.name + suffix).unlink(missing_ok=True)
    reach(FaultPoint.CATALOG_MADE)
    fresh.catalog.replace(layout.catalog)
    reach(FaultPoint.CATALOG_NAMED)
    sync_folder(layout.folder)


def is_half_replaced(layout: IndexLayout, fresh: IndexLayout) -> bool:
    """Return whether `replace_catalog` was killed before the new database got its place."""
    from mmsearch.catalog.checksum import read_seal, seal_path  # noqa: PLC0415

    fresh.refuse_links()
    if not fresh.catalog.exists() or not seal_path(fresh.catalog).exists():
        return False
    try:
        new, present = read_seal(fresh.catalog), read_seal(layout.catalog)
    except DamagedFileError:
        return False
    return new is not None and new.sha256 is not None and new == present


def drop_seal(layout: IndexLayout) -> None:
    """Let the next writer make a new seal."""
    from mmsearch.catalog.checksum import seal_path  # noqa: PLC0415

    seal_path(layout.catalog).unlink(missing_ok=True)


def _other_indexes(layout: IndexLayout) -> str:
    others = index_names(layout.folder.parent)
    if others:
        return f"There are: {', '.join(others)}. Choose one with --index NAME."
    return "Index a folder first: mmsearch index ./photos"
