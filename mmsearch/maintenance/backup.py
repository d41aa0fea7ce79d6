"""Backup, restore and removal of an index."""

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
    """Copy an index to a folder. See `mmsearch.api.index.Index.backup`."""
    if os.path.lexists(folder) and not _is_empty_folder(folder):
        raise SourceError(
            f"{display_path(folder)} exists already.", "Choose a new or an empty folder."
        )
    with _created_parents(folder):
        return copy_index(layout, catalog, IndexLayout(folder), catalogs.open_locked)


def restore(layout: IndexLayout, folder: Path, *, replace: bool) -> CopyReport:
    """Restore an index from a backup. See `mmsearch.restore_index`."""
    source = IndexLayout(folder)
    if not source.exists():
        raise SourceError(f"{display_path(folder)} contains no backup of an index.")
    # The index folder may be a symlink: its target is replaced, not the link.
    target = Path(os.path.realpath(layout.folder))
    replaced = target.with_name(f".{layout.name}.replaced")
    if replaced.exists() and not target.exists():
        replaced.rename(target)  # A restore was killed between its two renames.
    if layout.exists() and not replace:
        raise UsageError(
            f"An index named {layout.name!r} exists already.",
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
    """Remove an index. See `mmsearch.api.index.Index.remove`."""
    target = Path(os.path.realpath(layout.folder))
    trash = _trash_path(layout)
    if target.exists():
        with writer_lock(layout):
            remove_folder(trash)
            # The rename is atomic, so an interrupted removal leaves no partial index behind.
            target.rename(trash)
    remove_folder(trash)
    if layout.folder.is_symlink():
        layout.folder.unlink()


def is_partially_removed(layout: IndexLayout) -> bool:
    """Return True if a failed removal has left files of an index that no longer exists."""
    return not layout.folder.exists() and os.path.lexists(_trash_path(layout))


def _trash_path(layout: IndexLayout) -> Path:
    target = Path(os.path.realpath(layout.folder))
    return target.with_name(f".{layout.name}.removed")


def _swap_folders(target: Path, staging: Path, replaced: Path) -> None:
    """Replace a folder by another; after an error both are as they were."""
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
    """Create the parents of a folder, and remove those that were created after an error."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise
