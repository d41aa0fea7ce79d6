"""The immutable files of an index, which may be in a store, such as S3.

Without a store, they are in the folder of the index. With one, the folder is a cache: a file is
written to the store before the catalog names it, and fetched when it is read and the folder does
not have it. Names are never used twice, so a copy is never outdated. Size and sha256 of a fetched
file are compared with the catalog before it appears in the folder. Any complete file may be deleted
from the folder at any time.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from mmsearch.core.errors import (
    DamagedFileError,
    MMSearchError,
    SourceError,
    StateError,
    StorageError,
)
from mmsearch.core.files import PRIVATE_FILE_MODE, create_folder
from mmsearch.core.records import FileRef
from mmsearch.storage.atomic import REPAIR_HINT, AtomicFile, verify_file
from mmsearch.storage.failpoints import FailPoint, hit_failpoint
from mmsearch.storage.layout import IndexLayout, has_size, is_index_file_name
from mmsearch.storage.places import read_places
from mmsearch.storage.stores.local import LocalStore

if TYPE_CHECKING:
    from mmsearch.core.protocols import Store
    from mmsearch.storage.stores.remote import RemoteStore

OWNER_NAME: Final = "index.json"
"""Name of the object that says to which index a store belongs."""

UNUSED_S: Final = 7 * 86_400
"""Seconds after which a fetched file that nothing read is removed from the folder."""

DISK_FULL_UNUSED_S: Final = 60
"""The same if the disk is full."""

CHUNK_BYTES: Final = 1 << 20
_MAX_OWNER_BYTES: Final = 10_000
_LOCK_NAME: Final = "lock.fetch"
_NEXT_STEP: Final = "Check the network and the credentials of the store."


class CachedStore:
    """Files in a store and in the folder of an index, as a `Store`.

    Args:
        local: Store of the folder.
        remote: The store.
    """

    def __init__(self, local: LocalStore, remote: RemoteStore) -> None:
        self._local = local
        self._remote = remote

    @property
    def temporary_folder(self) -> Path:
        """The folder of the index."""
        return self._local.temporary_folder

    @contextmanager
    def put(self, name: str) -> Iterator[AtomicFile]:
        """Write a file in the folder, and send it before it appears there.

        Raises:
            StateError: It cannot be sent.
        """
        with self._local.put(name) as file:
            yield file
            file.flush()
            self._remote.send(file.path, name)
            hit_failpoint(FailPoint.FILE_SENT)

    def get(self, name: str) -> BinaryIO:
        """Open a file for reading, in the folder if it is there.

        Raises:
            DamagedFileError: There is no such file.
            SourceError: It cannot be read.
        """
        try:
            return self._local.get(name)
        except DamagedFileError as error:
            if not error.details.get("missing"):
                raise
        return self._remote.get(name)

    def list(self) -> dict[str, int]:
        """Return the sizes of the files in the store by name."""
        return self._remote.list()

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._remote.remove(name)
        self._local.remove(name)


def open_store(layout: IndexLayout) -> Store:
    """Return the store to which the files of an index are written.

    Raises:
        StateError: It is on a server that the user has not named on this machine.
        MissingExtraError: fsspec is not installed.
    """
    remote = open_remote(layout)
    local = LocalStore(layout.folder)
    return local if remote is None else CachedStore(local, remote)


def open_remote(layout: IndexLayout) -> RemoteStore | None:
    """Return the store of an index outside of its folder, or None; it is kept for later calls.

    Raises:
        StateError: It is on a server that the user has not named on this machine.
        MissingExtraError: fsspec is not installed.
    """
    url = read_places(layout).store if layout.has_places() else None
    # File systems of fsspec do not survive a fork.
    return None if url is None else _open_remote(url, os.getpid())


@lru_cache(maxsize=16)
def _open_remote(url: str, process: int) -> RemoteStore:
    from mmsearch.storage.stores.remote import RemoteStore  # noqa: PLC0415 - few indexes

    return RemoteStore(url)


def fetch_file(layout: IndexLayout, file_ref: FileRef) -> None:
    """Fetch a file into the folder unless it is there; do nothing without a store.

    One process fetches at a time, the others wait. A fetch that was interrupted starts again.

    Raises:
        DamagedFileError: The store lacks the file, or has another one.
        StorageError: The store cannot be read.
        OSError: The file cannot be written, for example because the disk is full.
    """
    remote = open_remote(layout)
    if remote is None:
        return
    path = layout.path(file_ref)
    create_folder(path.parent, inherit_permissions=True)
    with _fetch_lock(layout):
        if has_size(path, file_ref.bytes):
            return
        try:
            _fetch(layout, remote, file_ref)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not evict(layout, DISK_FULL_UNUSED_S):
                raise
            _fetch(layout, remote, file_ref)
        with suppress(MMSearchError):
            evict(layout, UNUSED_S)


@contextmanager
def _fetch_lock(layout: IndexLayout) -> Iterator[None]:
    import filelock  # noqa: PLC0415 - only for files that are not in the folder

    # A lock for each call: threads of one process wait for each other, too.
    with filelock.FileLock(layout.folder / _LOCK_NAME, mode=PRIVATE_FILE_MODE):
        yield


def _fetch(layout: IndexLayout, remote: RemoteStore, file_ref: FileRef) -> None:
    try:
        _download(layout, remote, file_ref)
    except DamagedFileError as error:
        if error.details.get("missing"):
            raise
        # A connection that ended early looks like a file that is too short.
        _download(layout, remote, file_ref)


def _download(layout: IndexLayout, remote: RemoteStore, file_ref: FileRef) -> None:
    with (
        _read_errors(remote),
        remote.get(file_ref.name) as source,
        LocalStore(layout.folder).put(file_ref.name) as file,
    ):
        for chunk in _read_chunks(source, file_ref.bytes + 1):
            file.write(chunk)
        # An error here keeps the file from appearing.
        _compare(remote, file_ref, file.file_ref())
        hit_failpoint(FailPoint.FILE_RECEIVED)


def verify_stored(layout: IndexLayout, file_ref: FileRef) -> None:
    """Compare a file in the store with the catalog; without a store, do nothing.

    Raises:
        DamagedFileError: The store lacks the file, or has another one.
        StorageError: The store cannot be read.
    """
    import hashlib  # noqa: PLC0415 - only checks

    remote = open_remote(layout)
    if remote is None:
        return
    digest, size = hashlib.sha256(), 0
    with _read_errors(remote), remote.get(file_ref.name) as source:
        for chunk in _read_chunks(source, file_ref.bytes + 1):
            digest.update(chunk)
            size += len(chunk)
    _compare(remote, file_ref, FileRef(file_ref.name, size, digest.hexdigest()))


def send_file(layout: IndexLayout, name: str) -> None:
    """Send a complete file of the folder to the store; without a store, do nothing.

    Raises:
        StateError: It cannot be sent.
    """
    remote = open_remote(layout)
    if remote is not None:
        remote.send(layout.folder / name, name)
        hit_failpoint(FailPoint.FILE_SENT)


def discard_file(layout: IndexLayout, file_ref: FileRef) -> None:
    """Remove a file that no catalog names, here and in the store."""
    remote = open_remote(layout)
    if remote is not None:
        remote.remove(file_ref.name)
    layout.path(file_ref).unlink(missing_ok=True)


def list_stored(layout: IndexLayout) -> dict[str, int]:
    """Return the sizes of the complete files of an index by name, in its store or its folder.

    Raises:
        StorageError: The store cannot be listed.
    """
    remote = open_remote(layout)
    if remote is None:
        return {
            name: path.stat().st_size for name, path in layout.files() if is_index_file_name(name)
        }
    with _read_errors(remote):
        sizes = remote.list()
    return {name: size for name, size in sizes.items() if is_index_file_name(name)}


def stored_bytes(layout: IndexLayout) -> int:
    """Return the size in bytes of the catalog and all files of an index, wherever they are."""
    if open_remote(layout) is None:
        return sum(layout.bytes_by_part().values())
    return layout.bytes_by_part()["catalog"] + sum(list_stored(layout).values())


def find_orphans(layout: IndexLayout, referenced: Collection[str]) -> list[str]:
    """Return the names of the files that the catalog does not use, also temporary ones.

    Args:
        layout: The index.
        referenced: Names of the files in use, as in `FileRef.name`.
    """
    names = {name for name, _ in layout.files()}
    if open_remote(layout) is not None:
        names |= list_stored(layout).keys()
    return sorted(names.difference(referenced))


def remove_orphans(layout: IndexLayout, referenced: Collection[str]) -> list[str]:
    """Delete the orphans; return their names. Only a writer that has the index alone may call this.

    Args:
        layout: The index.
        referenced: Names of the files in use, as in `FileRef.name`.
    """
    removed = []
    remote = open_remote(layout)
    # A temporary file may be one that a reader is fetching.
    with nullcontext() if remote is None else _fetch_lock(layout):
        for name, path in layout.files():
            if name not in referenced:
                path.unlink()
                hit_failpoint(FailPoint.ORPHAN_REMOVED)
                removed.append(name)
    if remote is None:
        return removed
    for name in sorted(list_stored(layout).keys() - set(referenced)):
        remote.remove(name)
        hit_failpoint(FailPoint.ORPHAN_REMOVED)
        removed.append(name)
    return removed


def evict(layout: IndexLayout, unused_s: float) -> list[str]:
    """Remove files from the folder that nothing has read for some time and that the store has.

    Returns:
        The names of the removed files.
    """
    now = time.time()
    unused = []
    for name, path in layout.files():
        with suppress(FileNotFoundError):
            found = path.stat()
            if now - max(found.st_atime, found.st_mtime) > unused_s and is_index_file_name(name):
                unused.append((name, path, found.st_size))
    stored = list_stored(layout) if unused else {}
    removed = []
    for name, path, size in unused:
        if stored.get(name) == size:
            path.unlink(missing_ok=True)
            removed.append(name)
    return removed


def drop_damaged_copies(layout: IndexLayout, file_refs: Iterable[FileRef]) -> list[str]:
    """Remove files from the folder that differ from the catalog, so that they are fetched again.

    Without a store, nothing is removed: they are no copies.

    Returns:
        The names of the removed files.
    """
    if open_remote(layout) is None:
        return []
    removed = []
    for file_ref in file_refs:
        path = layout.path(file_ref)
        try:
            verify_file(path, file_ref)
        except DamagedFileError as error:
            if not error.details.get("missing"):
                path.unlink()
                removed.append(file_ref.name)
    return removed


def restore_stored(layout: IndexLayout, file_ref: FileRef) -> bool:
    """Send a file of the folder again if the store lacks it or has another; return True if sent.

    Raises:
        StorageError: The store cannot be read.
    """
    remote = open_remote(layout)
    if remote is None:
        return False
    try:
        verify_stored(layout, file_ref)
    except DamagedFileError:
        try:
            verify_file(layout.path(file_ref), file_ref)
        except DamagedFileError:
            return False
        remote.send(layout.path(file_ref), file_ref.name)
        return True
    return False


def fetch_all(layout: IndexLayout) -> None:
    """Fetch every file of the store without the help of a catalog; without a store, do nothing.

    Raises:
        StorageError: The store cannot be read.
    """
    remote = open_remote(layout)
    if remote is None:
        return
    local = LocalStore(layout.folder)
    for name in list_stored(layout):
        with (
            _fetch_lock(layout),
            _read_errors(remote),
            remote.get(name) as source,
            local.put(name) as file,
        ):
            for chunk in _read_chunks(source):
                file.write(chunk)


def claim_store(layout: IndexLayout, generation: int = 0) -> None:
    """Write into the store that it belongs to this index; without a store, do nothing.

    Args:
        layout: The index.
        generation: Generation of its catalog.

    Raises:
        StateError: The store cannot be written.
    """
    remote = open_remote(layout)
    if remote is not None:
        write_owner(remote, read_places(layout).id, generation)


def write_owner(remote: RemoteStore, index_id: str | None, generation: int) -> None:
    """Write to which index a store belongs, and the generation of the catalog that wrote there."""
    content = {"format": 1, "id": index_id, "generation": generation}
    with remote.put(OWNER_NAME) as file:
        file.write(json.dumps(content).encode())


def is_in_use(remote: RemoteStore) -> bool:
    """Return True if an index has written to a store.

    Raises:
        StorageError: The store cannot be read.
    """
    with _read_errors(remote):
        names = remote.list()
    owner = _read_owner(remote) if OWNER_NAME in names else None
    return any(map(is_index_file_name, names)) or bool(owner and owner.get("generation") != 0)


def check_owner(layout: IndexLayout, generation: int | None = None) -> None:
    """Check that the store belongs to this index and is not newer; without a store, do nothing.

    A writer removes files that its catalog does not name. It must never do that to another index,
    nor with an older copy of the catalog.

    Args:
        layout: The index.
        generation: Generation of its catalog; None if the catalog is not used.

    Raises:
        StateError: The store belongs to another index, or a later generation wrote to it.
        StorageError: The store cannot be read.
    """
    remote = open_remote(layout)
    if remote is None:
        return
    owner = _read_owner(remote)
    if owner is None:
        claim_store(layout, generation or 0)
        return
    if owner.get("id") != read_places(layout).id:
        raise StateError(
            f"{remote.name} belongs to another index.", f"Correct the store in {layout.places}."
        )
    newest = owner.get("generation")
    if generation is not None and isinstance(newest, int) and newest > generation:
        raise StateError(
            f"{remote.name} has files of generation {newest:,}, but the catalog of index"
            f" {layout.name!r} is of generation {generation:,}: another copy has written there.",
            "Write with that copy, or copy its catalog.sqlite here.",
        )


def _read_owner(remote: RemoteStore) -> dict[str, Any] | None:
    try:
        with _read_errors(remote), remote.get(OWNER_NAME) as file:
            owner = json.loads(file.read(_MAX_OWNER_BYTES))
    except DamagedFileError:
        return None
    except (ValueError, RecursionError):
        owner = None
    return owner if isinstance(owner, dict) else {}


def remove_stored(layout: IndexLayout) -> None:
    """Remove all files of an index from its store; without a store, do nothing.

    Raises:
        StateError: The store cannot be written, or belongs to another index.
    """
    remote = open_remote(layout)
    if remote is None:
        return
    check_owner(layout)
    for name in list_stored(layout):
        remote.remove(name)
    remote.remove(OWNER_NAME)


def _compare(remote: RemoteStore, expected: FileRef, actual: FileRef) -> None:
    if actual.bytes != expected.bytes or actual.sha256 != expected.sha256:
        raise DamagedFileError(
            f"{remote.name}/{expected.name} does not match the catalog.", REPAIR_HINT
        )


@contextmanager
def _read_errors(remote: RemoteStore) -> Iterator[None]:
    """Raise errors of the store as those of a part of the index."""
    try:
        yield
    except SourceError as error:
        raise StorageError(error.message, error.hint or _NEXT_STEP) from error
    except DamagedFileError as error:
        if error.hint:
            raise
        raise DamagedFileError(error.message, REPAIR_HINT, **error.details) from error


def _read_chunks(file: BinaryIO, max_bytes: int | None = None) -> Iterator[bytes]:
    left = max_bytes
    while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        left = None if left is None else left - len(chunk)
        yield chunk
