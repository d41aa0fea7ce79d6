"""Indexed folders that were renamed or moved to another disk: their sources move, too."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from shlex import quote
from typing import Final

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError
from mmsearch.core.files import clamped_ctime_ns, clamped_mtime_ns, hash_source_file
from mmsearch.core.records import FileRecord, Root

SAMPLED_FILES: Final = 1000
"""Number of files that are compared to find a folder at another place."""

HASHED_FILES: Final = 50
"""Number of them whose content is compared, if their change times differ."""

MIN_SHARE_FOUND: Final = 0.9
"""Share of the files that a moved folder still has at the same relative paths."""

_FOLDERS_OF_DISKS: Final = re.compile(rb"/(media(/[^/]+)?|run/media/[^/]+|mnt|Volumes|net)")
"""Folders in which systems make a folder for each disk, and remove it with the disk."""


def move_renamed(
    catalog: CatalogWriter, folder: bytes, on_message: Callable[[str], None]
) -> list[Root]:
    """Move the roots whose folder was renamed or moved to a new one, or is in it now.

    A folder whose disk may only be unplugged does not move because of a copy of it.

    Args:
        catalog: The catalog.
        folder: Absolute path of the folder to index. Nothing is done if it is in a root.
        on_message: Called with a sentence for each root that moves or may have moved.

    Returns:
        The other roots whose folder does not exist.
    """
    roots = catalog.roots()
    if any(_contains(root, folder) for root in roots):
        return []
    missing = []
    for root in filter(_is_missing, roots):
        sample = _sample_files(catalog, root)
        place = _find_place(root, folder, sample, _are_same_files)
        is_renamed = place is not None
        place = place or _find_place(root, folder, sample, _have_same_contents)
        if place is None or any(_contains(other, place) for other in roots):
            missing.append(root)
        elif is_renamed or is_deleted(root.path):
            catalog.move_root(root.name, place)
            on_message(
                f"Folder {display_path(root.path)} is now {display_path(place)}; the index keeps"
                " its choices."
            )
        else:
            # The sentence at the end of the run would say the same.
            on_message(
                f"{display_path(place)} has the files of {display_path(root.path)}, which does not"
                " exist now; perhaps its disk is not mounted, so that both stay in the index. If"
                f" it has moved, run: mmsearch sources set {quote(root.name)} --place"
                f" {quote(display_path(place))}"
            )
    return missing


def has_moved(catalog: CatalogReader, root: Root, place: bytes) -> bool:
    """Return True if the folder of a root does not exist, and its files are at another place."""
    if not _is_missing(root):
        return False
    sample = _sample_files(catalog, root)
    return _are_same_files(place, sample) or _have_same_contents(place, sample)


def is_deleted(path: bytes) -> bool:
    """Return True if a folder that does not exist was deleted, and is not on an unplugged disk.

    The folder that contained it is there and has other entries, and no disk is mounted in it.
    """
    parent = os.path.dirname(path.rstrip(b"/"))  # noqa: PTH120 - bytes paths need os
    if _FOLDERS_OF_DISKS.fullmatch(parent):
        return False
    try:
        siblings = os.listdir(parent)  # noqa: PTH208
    except OSError:
        return False
    paths = [os.path.join(parent, name) for name in siblings]  # noqa: PTH118
    return bool(paths) and not any(os.path.ismount(path) for path in paths)


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


def _sample_files(catalog: CatalogReader, root: Root) -> list[FileRecord]:
    records = [
        record
        for record in catalog.list_files_under(root.id, b"").values()
        if record.content_id is not None
    ]
    return records[:: max(1, len(records) // SAMPLED_FILES)]


def _find_place(
    root: Root,
    folder: bytes,
    sample: Sequence[FileRecord],
    has_files: Callable[[bytes, Sequence[FileRecord]], bool],
) -> bytes | None:
    """Return where in a folder the folder of a root is now; None if it is not there.

    Args:
        root: A root whose folder does not exist.
        folder: Absolute path of the folder to look in, at the place of the root itself, or of the
            last parts of its path.
        sample: Files of the root.
        has_files: Returns True if a folder has the files.
    """
    parts = root.path.strip(b"/").split(b"/")
    ends = [b"/".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
    for place in (folder, *(folder.rstrip(b"/") + b"/" + end for end in ends)):
        if has_files(place, sample):
            return place
    return None


def _are_same_files(place: bytes, sample: Sequence[FileRecord]) -> bool:
    """Return True if a folder has most files with the same change times.

    A renamed folder has them, and a copy does not: it is the same folder.
    """
    timed = [record for record in sample if record.ctime_ns]
    found = sum(_stat_file(place, record, with_times=True) for record in timed)
    return bool(timed) and found >= MIN_SHARE_FOUND * len(timed)


def _have_same_contents(place: bytes, sample: Sequence[FileRecord]) -> bool:
    """Return True if a folder has most files with the same sizes and contents."""
    found = [record for record in sample if _stat_file(place, record, with_times=False)]
    if not found or len(found) < MIN_SHARE_FOUND * len(sample):
        return False
    hashed = found[:: max(1, len(found) // HASHED_FILES)]
    same = sum(_has_digest(place, record) for record in hashed)
    return same >= MIN_SHARE_FOUND * len(hashed)


def _stat_file(place: bytes, record: FileRecord, *, with_times: bool) -> bool:
    """Return True if a folder has a file with the size of a record, and with its times."""
    try:
        status = os.stat(place.rstrip(b"/") + b"/" + record.path)  # noqa: PTH116
    except OSError:
        return False
    times = (clamped_mtime_ns(status), clamped_ctime_ns(status))
    return status.st_size == record.size and (
        not with_times or times == (record.mtime_ns, record.ctime_ns)
    )


def _has_digest(place: bytes, record: FileRecord) -> bool:
    try:
        return hash_source_file(place.rstrip(b"/") + b"/" + record.path) == record.digest
    except (OSError, MMSearchError):
        return False


def describe_copied(catalog: CatalogReader, missing: Sequence[Root]) -> list[str]:
    """Return a sentence for each missing folder whose pictures are all in other places, too."""
    if not missing:
        return []
    names = {root.name for root in missing}
    return [
        f"Folder {display_path(source.uri)} does not exist now, and all of its"
        f" {source.pictures:,} pictures are in other places, too. If it is gone, run:"
        f" mmsearch sources remove {source.name}"
        for source in catalog.summarize_sources()
        if source.name in names
        and source.pictures
        and catalog.count_elsewhere(source.id) == source.pictures
    ]
