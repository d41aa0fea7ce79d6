"""Indexed folders that were renamed: their sources move to the new place."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.files import clamped_ctime_ns, clamped_mtime_ns
from mmsearch.core.records import FileRecord, Root

SAMPLED_FILES: Final = 1000
"""Number of files that are compared to find a renamed folder."""

MIN_SHARE_FOUND: Final = 0.9
"""Share of the files that a renamed folder still has at the same relative paths."""


def move_renamed(
    catalog: CatalogWriter, folder: bytes, on_message: Callable[[str], None]
) -> list[Root]:
    """Move the roots whose folder was renamed to a new one, or is in it now.

    Args:
        catalog: The catalog.
        folder: Absolute path of the folder to index. Nothing is done if it is in a root.
        on_message: Called with a sentence for each root that moves.

    Returns:
        The other roots whose folder does not exist.
    """
    roots = catalog.roots()
    if any(_contains(root, folder) for root in roots):
        return []
    missing = []
    for root in filter(_is_missing, roots):
        place = find_new_place(catalog, root, folder)
        if place is None or any(_contains(other, place) for other in roots):
            missing.append(root)
            continue
        catalog.move_root(root.name, place)
        on_message(
            f"Folder {display_path(root.path)} is now {display_path(place)}; the index keeps its"
            " choices."
        )
    return missing


def _contains(root: Root, path: bytes) -> bool:
    return (path + b"/").startswith(root.path.rstrip(b"/") + b"/")


def _is_missing(root: Root) -> bool:
    try:
        os.stat(root.path)  # noqa: PTH116 - bytes paths need os
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def find_new_place(catalog: CatalogReader, root: Root, folder: bytes) -> bytes | None:
    """Return where in a folder the folder of a root is now; None if it is not there.

    A renamed folder has the same files with the same change times, which a copy does not have: an
    indexed drive that is not mounted is never taken for its copy.

    Args:
        catalog: The catalog.
        root: A root whose folder does not exist.
        folder: Absolute path of the folder to look in, at the place of the root itself, or of the
            last parts of its path.
    """
    records = [
        record
        for record in catalog.list_files_under(root.id, b"").values()
        if record.ctime_ns and record.content_id is not None
    ]
    sample = records[:: max(1, len(records) // SAMPLED_FILES)]
    parts = root.path.strip(b"/").split(b"/")
    ends = [b"/".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
    for place in (folder, *(folder.rstrip(b"/") + b"/" + end for end in ends)):
        found = sum(
            _is_same_file(place.rstrip(b"/") + b"/" + record.path, record) for record in sample
        )
        if sample and found >= MIN_SHARE_FOUND * len(sample):
            return place
    return None


def _is_same_file(path: bytes, record: FileRecord) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except OSError:
        return False
    return (status.st_size, clamped_mtime_ns(status), clamped_ctime_ns(status)) == (
        record.size,
        record.mtime_ns,
        record.ctime_ns,
    )


def describe_copied(catalog: CatalogReader, missing: Sequence[Root]) -> list[str]:
    """Return a sentence for each missing folder whose pictures are all in other places, too."""
    if not missing:
        return []
    names = {root.name for root in missing}
    return [
        f"Folder {display_path(source.uri)} does not exist now, and all of its"
        f" {source.pictures:,} pictures are in other places, too. If it has moved, run:"
        f" mmsearch sources remove {source.name}"
        for source in catalog.summarize_sources()
        if source.name in names
        and source.pictures
        and catalog.count_elsewhere(source.id) == source.pictures
    ]
