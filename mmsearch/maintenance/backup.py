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
from mmsearch.storage.atomic import fsync_folder
from mmsearch.storage.layout import IndexLayout, remove_folder
from mmsearch.storage.lock import writer_lock


def backup(layout: IndexLayout, catalog: Catalog, folder: Path) -> CopyReport:
    """See `mmsearch.api.keeping.BaseIndex.backup`."""
    if os.path.lexists(folder) and not _is_empty_folder(folder):
        raise SourceError(f"{display_path(folder)} exists already.", "Name a folder that does not.")
    with _created_parents(folder):
        return copy_index(layout, catalog, IndexLayout(folder), catalogs.open_locked)


def restore(layout: IndexLayout, folder: Path, *, replace: bool) -> CopyReport:
    """See `mmsearch.restore_index`."""
    source = IndexLayout(folder)
    if not source.exists():
        raise SourceError(f"{display_path(folder)} holds no backup of an index.")
    # An index's folder may be a link: what it leads to is replaced, not the link.
    target = Path(os.path.realpath(layout.folder))
    replaced = target.with_name(f".{layout.name}.replaced")
    if replaced.exists() and not target.exists():
        replaced.rename(target)  # A restoration was killed between its two renames.
    if layout.exists() and not replace:
        raise UsageError(
            f"There is an index {layout.name!r} already.",
            "Restore under another name with --index NAME, or add --replace.",
        )
    catalogs.is_checksum_valid(source)
    staging = IndexLayout(target.with_name(f".{layout.name}.restored"))
    with _created_parents(target):
        try:
            remove_folder(staging.folder)
            with catalogs.open_read(source) as catalog:
                report = copy_index(source, catalog, staging, catalogs.open_locked)
            if target.exists():
                with writer_lock(layout):
                    _swap_folders(target, staging.folder, replaced)
                _remove_quietly(replaced)
            else:
                staging.folder.rename(target)
        except BaseException:
            _remove_quietly(staging.folder)
            raise
        fsync_folder(target.parent)
    return dataclasses.replace(report, folder=layout.folder)


def remove(layout: IndexLayout) -> None:
    """See `mmsearch.api.keeping.BaseIndex.remove`."""
    target = Path(os.path.realpath(layout.folder))
    trash = _trash_path(layout)
    if target.exists():
        with writer_lock(layout):
            remove_folder(trash)
            # Another name at once: whatever happens then, there is no half of an index.
            target.rename(trash)
    remove_folder(trash)
    if layout.folder.is_symlink():
        layout.folder.unlink()


def is_partially_removed(layout: IndexLayout) -> bool:
    """Return whether an index is gone, and a removal that failed has left some of its files."""
    return not layout.folder.exists() and os.path.lexists(_trash_path(layout))


def _trash_path(layout: IndexLayout) -> Path:
    target = Path(os.path.realpath(layout.folder))
    return target.with_name(f".{layout.name}.removed")


def _swap_folders(target: Path, staging: Path, replaced: Path) -> None:
    """Put a folder in the place of another, or leave both as they are."""
    remove_folder(replaced)
    target.rename(replaced)
    try:
        staging.rename(target)
    except BaseException:
        replaced.rename(target)
        raise


def _remove_quietly(folder: Path) -> None:
    with suppress(OSError):
        remove_folder(folder)


def _is_empty_folder(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


@contextmanager
def _created_parents(folder: Path) -> Iterator[None]:
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
