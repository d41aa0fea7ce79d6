"""Folders that appear complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmsearch.core.files import create_folder
from mmsearch.storage.atomic import fsync_folder
from mmsearch.storage.layout import remove_folder


def is_vacant(path: Path) -> bool:
    """Return True if a folder may be created at a path: nothing is there, or an empty folder."""
    if path.is_symlink() or path.exists():
        return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder so that it is complete or absent, even after a power failure.

    After an error, nothing is left of it and of the parents that were created for it.

    Args:
        path: Final path, at which `is_vacant` is True.

    Yields:
        The folder to fill, beside the final path. The caller syncs the files in it.
    """
    staging = path.with_name(f".{path.name}.unfinished")
    new_parents = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_folder(staging)
        create_folder(staging, inherit_permissions=True)
        yield staging
        for folder in (*(entry for entry in staging.iterdir() if entry.is_dir()), staging):
            fsync_folder(folder)
        if path.is_dir():
            path.rmdir()
        staging.rename(path)
    except BaseException:
        with suppress(OSError):
            remove_folder(staging)
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        raise
    fsync_folder(path.parent)
