"""Backup, restore and removal of an index."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, Hint, SourceError, StateError, UsageError
from mmsearch.core.files import create_folder, expand_user
from mmsearch.core.records import FileRef
from mmsearch.core.reports import CopyReport
from mmsearch.factories import catalogs
from mmsearch.storage.atomic import (
    TEMPORARY_SUFFIX,
    atomic_write,
    fsync_folder,
    map_file,
    verify_file,
)
from mmsearch.storage.layout import IndexLayout, remove_folder
from mmsearch.storage.lock import writer_lock
from mmsearch.storage.places import knows_servers, read_places
from mmsearch.storage.stored_files import check_owner, remove_stored

if TYPE_CHECKING:
    from mmsearch.storage.stores.remote import RemoteStore

_FILE_URI = "file://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def backup(layout: IndexLayout, catalog: CatalogReader, destination: str) -> CopyReport:
    """Copy an index to a folder or a URI. See `mmsearch.api.index.Index.backup`."""
    if read_places(layout).catalog is not None:
        raise StateError(
            f"The catalog of index {layout.name!r} is in PostgreSQL, which makes its own backups.",
            "Run pg_dump for its database, and copy the files of the store after it.",
        )
    store = _open_store(destination)
    if store is not None:
        from mmsearch.maintenance.remote_backup import backup_to_store  # noqa: PLC0415 - rare

        return backup_to_store(layout, catalog, store, store.name, catalogs.open_locked)
    folder = _to_folder(destination)
    if os.path.lexists(folder) and not _is_empty_folder(folder):
        raise SourceError(
            f"{display_path(folder)} exists already.", "Choose a new or an empty folder."
        )
    with _created_parents(folder):
        return copy_index(layout, catalog, IndexLayout(folder), catalogs.open_locked)


def restore(layout: IndexLayout, source: str, *, replace: bool) -> CopyReport:
    """Restore an index from a backup. See `mmsearch.restore_index`."""
    store = _open_store(source)
    folder = None if store is not None else _to_folder(source)
    if folder is not None and not IndexLayout(folder).exists():
        raise SourceError(
            f"{display_path(folder)} contains no backup of an index.",
            Hint("Use a folder that {} wrote.", "Index.backup", "'mmsearch backup'"),
        )
    # The index folder may be a symlink: its target is replaced, not the link.
    target = Path(os.path.realpath(layout.folder))
    replaced = target.with_name(f".{layout.name}.replaced")
    if replaced.exists() and not target.exists():
        replaced.rename(target)  # A restore was killed between its two renames.
    if layout.has_places():
        raise UsageError(
            f"Parts of index {layout.name!r} are outside of its folder, and stay as they are.",
            Hint("Restore under another name{}.", "", " with --index NAME"),
        )
    if layout.exists() and not replace:
        raise UsageError(
            f"An index named {layout.name!r} exists already.",
            Hint(
                "Restore under another name{}.",
                ", or pass replace=True",
                " with --index NAME, or add --replace",
            ),
        )
    staging = IndexLayout(target.with_name(f".{layout.name}.restored"))
    if folder is not None:
        catalogs.is_checksum_valid(IndexLayout(folder))
    with _created_parents(target):
        try:
            remove_folder(staging.folder)
            if folder is not None:
                with catalogs.open_read(IndexLayout(folder)) as catalog:
                    report = copy_index(IndexLayout(folder), catalog, staging, catalogs.open_locked)
            elif store is not None:
                report = _fetch(store, staging)
            if target.exists():
                with catalogs.writer_lock(layout):
                    _swap_folders(target, staging.folder, replaced)
                _remove_quietly(replaced)
                fsync_folder(target.parent)
            else:
                _publish_folder(staging.folder, target)
        except BaseException:
            _remove_quietly(staging.folder)
            raise
    return dataclasses.replace(report, folder=layout.folder)


def _open_store(address: str) -> RemoteStore | None:
    """Return the store that a URI names; None for a folder of this machine."""
    scheme, separator, _ = address.partition("://")
    if not separator or scheme.lower() == "file" or not _SCHEME.fullmatch(scheme):
        return None
    from mmsearch.storage.stores.remote import RemoteStore  # noqa: PLC0415 - rare

    return RemoteStore(address)


def _to_folder(address: str) -> Path:
    is_uri = address[: len(_FILE_URI)].lower() == _FILE_URI
    return expand_user(address[len(_FILE_URI) :] if is_uri else address).absolute()


def _fetch(store: RemoteStore, staging: IndexLayout) -> CopyReport:
    from mmsearch.maintenance.remote_backup import restore_from_store  # noqa: PLC0415 - rare

    return restore_from_store(store, store.name, staging, catalogs.open_locked)


def remove(layout: IndexLayout) -> None:
    """Remove an index. See `mmsearch.api.index.Index.remove`."""
    target = Path(os.path.realpath(layout.folder))
    trash = _trash_path(layout)
    if target.exists():
        known = knows_servers(layout)
        lock = catalogs.writer_lock if known else writer_lock
        with lock(layout):
            _remove_stored(trash)
            if known:
                check_owner(layout)
                catalogs.drop_on_server(layout)
            remove_folder(trash)
            # The rename is atomic, so an interrupted removal leaves no partial index behind.
            target.rename(trash)
    _remove_stored(trash)
    remove_folder(trash)
    if layout.folder.is_symlink():
        layout.folder.unlink()


def _remove_stored(trash: Path) -> None:
    """Remove the files of a removed index from its store, unless the user does not know it."""
    layout = IndexLayout(trash)
    if knows_servers(layout):
        remove_stored(layout)


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


def _publish_folder(staging: Path, target: Path) -> None:
    """Rename a complete folder; after an error it has its old name, so a retry can succeed."""
    staging.rename(target)
    try:
        fsync_folder(target.parent)
    except BaseException:
        target.rename(staging)
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


MAX_ATTEMPTS = 5


def copy_index(
    source: IndexLayout,
    catalog: CatalogReader,
    target: IndexLayout,
    open_writer: Callable[[IndexLayout], AbstractContextManager[CatalogWriter]],
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
                _remove_copy(staging)
                raise
        except BaseException:
            _remove_copy(staging)
            raise
    try:
        size = sum(staging.bytes_by_part().values())
        if target.folder.is_dir():
            target.folder.rmdir()
        _publish_folder(staging.folder, target.folder)
    except BaseException:
        _remove_copy(staging)
        raise
    return CopyReport(target.folder, pictures, files, size, time.monotonic() - started_at)


def _remove_copy(layout: IndexLayout) -> None:
    # An error here must not hide the error that made the copy fail.
    with suppress(OSError):
        remove_folder(layout.folder)


def _ignore_unfinished(folder: str, names: list[str]) -> list[str]:
    """Return the names of files that a run is writing, and of links."""
    return [
        name
        for name in names
        if name.endswith(TEMPORARY_SUFFIX) or (Path(folder) / name).is_symlink()
    ]


def list_files(catalog: CatalogReader) -> tuple[list[FileRef], int]:
    """Return the files that a copy of a catalog needs, and the number of its pictures."""
    files = [segment.file_ref for segment in catalog.segments()]
    files += [file.file_ref for file in catalog.derived.files()]
    with catalog.snapshot() as snapshot:
        files += [snapshot.built.file_ref] if snapshot.built else []
        return files, snapshot.pictures


def _copy_files(
    source: IndexLayout,
    catalog: CatalogReader,
    target: IndexLayout,
    open_writer: Callable[[IndexLayout], AbstractContextManager[CatalogWriter]],
) -> tuple[int, int]:
    catalog.copy_to(target.catalog)
    with open_writer(target) as copy:
        copy.discard_building()
        stamps, pictures = list_files(copy)
        for file_ref in stamps:
            path = source.local_path(file_ref)
            verify_file(path, file_ref)
            create_folder(target.path(file_ref).parent, inherit_permissions=True)
            atomic_write(target.path(file_ref), map_file(path, file_ref.bytes).data)
    for folder, copied_folder in (
        (source.thumbnails, target.thumbnails),
        (source.originals, target.originals),
    ):
        if folder.is_dir():
            shutil.copytree(folder, copied_folder, ignore=_ignore_unfinished)
    return len(stamps), pictures
