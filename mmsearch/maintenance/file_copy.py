"""Copying of a whole index while a writer may be active, for backup and restore."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.reports import CopyReport
from mmsearch.storage.atomic import atomic_write, fsync_folder, map_verified
from mmsearch.storage.layout import IndexLayout, remove_folder

MAX_ATTEMPTS = 5


def copy_index(
    source: IndexLayout,
    catalog: Catalog,
    target: IndexLayout,
    open_writer: Callable[[IndexLayout], AbstractContextManager[Catalog]],
) -> CopyReport:
    """Copy one generation; every file is verified, and the copy appears atomically.

    Args:
        source: The index to copy.
        catalog: Its catalog, open for reading.
        target: Destination; must not exist, or be an empty folder.
        open_writer: Opens the catalog of the copy for writing.

    Returns:
        The report of the copy.

    Raises:
        DamagedFileError: A file of the source does not match its catalog.
    """
    started_at = time.monotonic()
    # Staged in the same parent folder, so that the last step is one rename.
    staging = IndexLayout(target.folder.with_name(f".{target.name}.unfinished"))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            remove_folder(staging.folder)
            staging.create()
            files, pictures = _copy_files(source, catalog, staging, open_writer)
            break
        except DamagedFileError as error:
            # A compaction may have removed the file after the catalog was copied.
            if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                _remove_quietly(staging)
                raise
        except BaseException:
            _remove_quietly(staging)
            raise
    try:
        size = sum(staging.bytes_by_part().values())
        if target.folder.is_dir():
            target.folder.rmdir()
        staging.folder.rename(target.folder)
    except BaseException:
        _remove_quietly(staging)
        raise
    fsync_folder(target.folder.parent)
    return CopyReport(target.folder, pictures, files, size, time.monotonic() - started_at)


def _remove_quietly(layout: IndexLayout) -> None:
    # An error here must not hide the error that made the copy fail.
    with suppress(OSError):
        remove_folder(layout.folder)


def _copy_files(
    source: IndexLayout,
    catalog: Catalog,
    target: IndexLayout,
    open_writer: Callable[[IndexLayout], AbstractContextManager[Catalog]],
) -> tuple[int, int]:
    catalog.copy_to(target.catalog)
    with open_writer(target) as copy:
        copy.discard_staged()
        stamps = [segment.file_ref for segment in copy.segments()]
        with copy.snapshot() as snapshot:
            pictures = snapshot.pictures
            stamps += [snapshot.built.file_ref] if snapshot.built else []
        for file_ref in stamps:
            atomic_write(target.path(file_ref), map_verified(source.path(file_ref), file_ref).data)
    return len(stamps), pictures
