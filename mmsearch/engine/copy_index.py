"""A whole index, copied while a writer may be at work: backup and restoration."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from mmsearch.core.catalog import Catalog
from mmsearch.core.durable import publish_bytes, read_verified, sync_folder
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.upkeep import CopyReport

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
            shutil.rmtree(unfinished.folder, ignore_errors=True)
            unfinished.create()
            files, pictures = _fill(source, catalog, unfinished, open_writer)
            break
        except DamagedFileError as error:
            # A compaction may have taken the file away after the catalog was copied.
            if attempt == ATTEMPTS or not error.facts.get("missing"):
                shutil.rmtree(unfinished.folder, ignore_errors=True)
                raise
        except BaseException:
            shutil.rmtree(unfinished.folder, ignore_errors=True)
            raise
    try:
        size = sum(unfinished.sizes().values())
        if target.folder.is_dir():
            target.folder.rmdir()
        unfinished.folder.rename(target.folder)
    except BaseException:
        shutil.rmtree(unfinished.folder, ignore_errors=True)
        raise
    sync_folder(target.folder.parent)
    return CopyReport(target.folder, pictures, files, size, time.monotonic() - began)


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
