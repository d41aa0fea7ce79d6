"""A whole index, copied while a writer may be at work: backup and restoration."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.reports import CopyReport
from mmsearch.storage.atomic import publish_bytes, read_verified, sync_folder
from mmsearch.storage.layout import IndexLayout, remove_folder

ATTEMPTS = 5


def copy_index(
    source: IndexLayout,
    catalog: Catalog,
    target: IndexLayout,
    open_writer: Callable[[IndexLayout], AbstractContextManager[Catalog]],
) -> CopyReport:
    """Copy one generation; every file is verified on the way, and nothing is seen half done.

    Args:
        source: The index.
        catalog: Its catalog, open for reading.
        target: Where the copy shall be; it must not exist, or be an empty folder.
        open_writer: Opens the copy's catalog.

    Raises:
        DamagedFileError: A file of the source is not what its catalog says.
    """
    began = time.monotonic()
    # Beside the target, so that the last step is one rename.
    unfinished = IndexLayout(target.folder.with_name(f".{target.name}.unfinished"))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            remove_folder(unfinished.folder)
            unfinished.create()
            files, pictures = _fill(source, catalog, unfinished, open_writer)
            break
        except DamagedFileError as error:
            # A compaction may have taken the file away after the catalog was copied.
            if attempt == ATTEMPTS or not error.facts.get("missing"):
                _discard(unfinished)
                raise
        except BaseException:
            _discard(unfinished)
            raise
    try:
        size = sum(unfinished.sizes().values())
        if target.folder.is_dir():
            target.folder.rmdir()
        unfinished.folder.rename(target.folder)
    except BaseException:
        _discard(unfinished)
        raise
    sync_folder(target.folder.parent)
    return CopyReport(target.folder, pictures, files, size, time.monotonic() - began)


def _discard(layout: IndexLayout) -> None:
    # Why the copy failed is worth more than that its rest could not be deleted.
    with suppress(OSError):
        remove_folder(layout.folder)


def _fill(
    source: IndexLayout,
    catalog: Catalog,
    target: IndexLayout,
    open_writer: Callable[[IndexLayout], AbstractContextManager[Catalog]],
) -> tuple[int, int]:
    catalog.copy_to(target.catalog)
    with open_writer(target) as copy:
        copy.unstage()
        stamps = [segment.stamp for segment in copy.segments()]
        with copy.snapshot() as snapshot:
            pictures = snapshot.pictures
            stamps += [snapshot.built.stamp] if snapshot.built else []
        for stamp in stamps:
            publish_bytes(target.path(stamp), read_verified(source.path(stamp), stamp).data)
    return len(stamps), pictures
