"""Copies of an index: to another folder, and from there into the place of an index."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError, UsageError
from mmsearch.core.reports import CopyReport
from mmsearch.factories import catalogs
from mmsearch.maintenance.file_copy import copy_index
from mmsearch.storage.atomic import sync_folder
from mmsearch.storage.layout import IndexLayout, remove_folder
from mmsearch.storage.lock import writer_lock


def backup(layout: IndexLayout, catalog: Catalog, folder: Path) -> CopyReport:
    """See `mmsearch.api.keeping.KeptIndex.backup`."""
    if os.path.lexists(folder) and not _is_empty_folder(folder):
        raise SourceError(f"{display_path(folder)} exists already.", "Name a folder that does not.")
    with _folders_above(folder):
        return copy_index(layout, catalog, IndexLayout(folder), catalogs.opened)


def restore(layout: IndexLayout, folder: Path, *, replace: bool) -> CopyReport:
    """See `mmsearch.restore_index`."""
    source = IndexLayout(folder)
    if not source.exists():
        raise SourceError(f"{display_path(folder)} holds no backup of an index.")
    # An index's folder may be a link: what it leads to is replaced, not the link.
    place = Path(os.path.realpath(layout.folder))
    former = place.with_name(f".{layout.name}.replaced")
    if former.exists() and not place.exists():
        former.rename(place)  # A restoration was killed between its two renames.
    if layout.exists() and not replace:
        raise UsageError(
            f"There is an index {layout.name!r} already.",
            "Restore under another name with --index NAME, or add --replace.",
        )
    catalogs.is_sealed(source)
    fresh = IndexLayout(place.with_name(f".{layout.name}.restored"))
    with _folders_above(place):
        try:
            remove_folder(fresh.folder)
            with catalogs.reading(source) as catalog:
                report = copy_index(source, catalog, fresh, catalogs.opened)
            if place.exists():
                with writer_lock(layout):
                    _exchange(place, fresh.folder, former)
                _discard(former)
            else:
                fresh.folder.rename(place)
        except BaseException:
            _discard(fresh.folder)
            raise
        sync_folder(place.parent)
    return dataclasses.replace(report, folder=layout.folder)


def remove(layout: IndexLayout) -> None:
    """See `mmsearch.api.keeping.KeptIndex.remove`."""
    place = Path(os.path.realpath(layout.folder))
    removed = _removed(layout)
    if place.exists():
        with writer_lock(layout):
            remove_folder(removed)
            # Another name at once: whatever happens then, there is no half of an index.
            place.rename(removed)
    remove_folder(removed)
    if layout.folder.is_symlink():
        layout.folder.unlink()


def is_half_removed(layout: IndexLayout) -> bool:
    """Return whether an index is gone, and a removal that failed has left some of its files."""
    return not layout.folder.exists() and os.path.lexists(_removed(layout))


def _removed(layout: IndexLayout) -> Path:
    place = Path(os.path.realpath(layout.folder))
    return place.with_name(f".{layout.name}.removed")


def _exchange(place: Path, fresh: Path, former: Path) -> None:
    """Put a folder in the place of another, or leave both as they are."""
    remove_folder(former)
    place.rename(former)
    try:
        fresh.rename(place)
    except BaseException:
        former.rename(place)
        raise


def _discard(folder: Path) -> None:
    with suppress(OSError):
        remove_folder(folder)


def _is_empty_folder(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


@contextmanager
def _folders_above(folder: Path) -> Iterator[None]:
    """Make the folders above one; those that were made are removed again after an error."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise
