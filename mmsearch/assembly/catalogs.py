"""The catalog of an index: to be read, to be written, and in what state its last writer left it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmsearch.core.catalog import Catalog, Reader
from mmsearch.core.errors import MMSearchError, StateError, UnknownIndexError
from mmsearch.core.layout import IndexLayout, index_names
from mmsearch.core.locking import writer_lock
from mmsearch.core.records import Identity


@contextmanager
def reading(layout: IndexLayout) -> Iterator[Catalog]:
    """The catalog of an index, for whoever changes nothing.

    Raises:
        UnknownIndexError: There is no such index.
    """
    from mmsearch.catalog.opening import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

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
    from mmsearch.catalog.opening import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

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
def private_copy(layout: IndexLayout) -> Iterator[Catalog]:
    """A copy of one state of a catalog, which nobody else changes.

    Raises:
        DamagedFileError: The catalog cannot be read.
        UnknownIndexError: There is no such index.
    """
    import tempfile  # noqa: PLC0415 - only checks and repairs need it

    from mmsearch.catalog.opening import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
        path = Path(folder) / "copy.sqlite"
        with reading(layout) as catalog:
            catalog.copy_to(path)
        copy = open_catalog(path, sealed=False)
        try:
            yield copy
        finally:
            copy.close()


def is_sealed(layout: IndexLayout) -> bool:
    """Whether a catalog is what its last writer left; False if that one works or was killed.

    Raises:
        DamagedFileError: It is not.
    """
    from mmsearch.catalog.seal import check_seal  # noqa: PLC0415

    return check_seal(layout.catalog)


def has_lost_commits(layout: IndexLayout) -> bool:
    """Whether a killed writer left commits that cannot be read.

    After a power cut that may be the one commit that was not acknowledged. No writer may be at
    work.
    """
    from mmsearch.catalog.wal import commits_passed_over  # noqa: PLC0415

    return commits_passed_over(layout.catalog) > 0


def salvage(layout: IndexLayout) -> tuple[Identity | None, tuple[bytes, ...]]:
    """What can still be read of a damaged catalog: what it is bound to, and its folders."""
    from mmsearch.catalog.seal import read_seal  # noqa: PLC0415

    identity: Identity | None = None
    roots: tuple[bytes, ...] = ()
    with suppress(MMSearchError):
        seal = read_seal(layout.catalog)
        roots = seal.roots if seal else ()
    # What damage makes of a catalog's values may break anything that reads them.
    with suppress(Exception), reading(layout) as catalog:
        identity = catalog.identity()
        roots = tuple({*roots, *(root.path for root in catalog.roots())})
    return identity, roots


def drop_seal(layout: IndexLayout) -> None:
    """Let the next writer make a new seal."""
    from mmsearch.catalog.seal import seal_path  # noqa: PLC0415

    seal_path(layout.catalog).unlink(missing_ok=True)


def _other_indexes(layout: IndexLayout) -> str:
    others = index_names(layout.folder.parent)
    if others:
        return f"There are: {', '.join(others)}. Choose one with --index NAME."
    return "Index a folder first: mmsearch index ./photos"
