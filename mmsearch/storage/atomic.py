"""Files that are either whole or absent, and are what they were when they are read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.files import NotRegularError, create_file, foreign_file_error, open_regular_file
from mmsearch.core.records import FileRef
from mmsearch.storage.failpoints import FailPoint, hit_failpoint

TEMPORARY_SUFFIX = ".tmp"

REPAIR_HINT = "The index is damaged: 'mmsearch check' says where, 'mmsearch repair' mends it."


class AtomicFile:
    """A file that is being written: it counts when its `atomic_file` ends without an error.

    Attributes:
        path: Where its bytes are until then. What was written can be read there after `flush`.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._digest.update(view)
        self._size += len(view)

    def flush(self) -> None:
        """Let what was written be read under `path`."""
        self._file.flush()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def file_ref(self, path: Path) -> FileRef:
        """Name, size and sha256 of what was written, as the file ``path``."""
        return FileRef(f"{path.parent.name}/{path.name}", self._size, self._digest.hexdigest())


@contextmanager
def atomic_file(path: Path) -> Iterator[AtomicFile]:
    """Write a file piece by piece so that it is either whole or absent, also after a power cut.

    Args:
        path: Its place; the parent folder's name becomes part of the stamp's name.
    """
    temporary_path = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with create_file(temporary_path) as file:
            hit_failpoint(FailPoint.FILE_OPENED)
            yield AtomicFile(temporary_path, file)
            file.flush()
            hit_failpoint(FailPoint.FILE_WRITTEN)
            os.fsync(file.fileno())
        hit_failpoint(FailPoint.FILE_SYNCED)
        temporary_path.replace(path)
        hit_failpoint(FailPoint.FILE_RENAMED)
    except BaseException:
        with suppress(OSError):
            temporary_path.unlink()
        raise
    fsync_folder(path.parent)
    hit_failpoint(FailPoint.FILE_PUBLISHED)


def atomic_write(path: Path, data: bytes | bytearray | memoryview) -> FileRef:
    """Write a whole file as `atomic_file` does.

    Args:
        path: Its place.
        data: The content.

    Returns:
        Name, size and sha256 of what was written.
    """
    with atomic_file(path) as file:
        file.write(data)
    return file.file_ref(path)


def make_file_ref(path: Path, content: bytes | memoryview) -> FileRef:
    """Name, size and sha256 of a file of an index that holds ``content``."""
    name = f"{path.parent.name}/{path.name}"
    return FileRef(name, len(content), hashlib.sha256(content).hexdigest())


def open_index_file(path: Path) -> BufferedReader:
    """Open a file of an index for reading.

    Raises:
        DamagedFileError: It is a link, or no regular file.
        OSError: It cannot be opened.
    """
    try:
        return open_regular_file(path, follow_links=False)
    except NotRegularError as error:
        raise foreign_file_error(path, error.kind) from None


def file_sha256(path: Path) -> str:
    """The sha256 of a file of an index, in hexadecimal digits.

    Raises:
        DamagedFileError: It is a link, or no regular file.
    """
    with open_index_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames in a folder durable; a no-op where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def map_file(path: Path, size: int) -> NDArray[np.uint8]:
    """Map a file of the index into memory.

    Args:
        path: The file.
        size: Bytes that it must have.

    Returns:
        uint8 (bytes,), read-only, backed by the file.

    Raises:
        DamagedFileError: The file has another size, is missing, or is no regular file.
    """
    with _open_checked_size(path, size) as file:
        if not size:
            return np.empty(0, np.uint8)
        content: NDArray[np.uint8] = np.memmap(file, dtype=np.uint8, mode="r")
    return content


def map_verified(path: Path, file_ref: FileRef) -> NDArray[np.uint8]:
    """Map a file of the index into memory after its size and checksum were found right.

    Args:
        path: The file.
        file_ref: What the catalog says of it.

    Returns:
        uint8 (bytes,), read-only, backed by the file.

    Raises:
        DamagedFileError: The file has another size or checksum, or is missing.
    """
    content = map_file(path, file_ref.bytes)
    if hashlib.sha256(content.data).hexdigest() != file_ref.sha256:
        raise DamagedFileError(f"{path} does not match its checksum.", REPAIR_HINT)
    return content


def read_verified_bytes(path: Path, file_ref: FileRef) -> bytes:
    """Read a file of the index into memory; its size and checksum are compared.

    Unlike with `map_verified`, a disk that fails raises an error and ends no process.

    Args:
        path: The file.
        file_ref: What the catalog says of it.

    Raises:
        DamagedFileError: The file has another size or checksum, or is missing.
        OSError: It cannot be read.
    """
    with _open_checked_size(path, file_ref.bytes) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != file_ref.sha256:
        raise DamagedFileError(f"{path} does not match its checksum.", REPAIR_HINT)
    return content


def verify_file(path: Path, file_ref: FileRef) -> None:
    """Compare the size and the checksum of a file of the index, piece by piece.

    Raises:
        DamagedFileError: The file has another size or checksum, or is missing.
        OSError: It cannot be read.
    """
    with _open_checked_size(path, file_ref.bytes) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != file_ref.sha256:
            raise DamagedFileError(f"{path} does not match its checksum.", REPAIR_HINT)


@contextmanager
def _open_checked_size(path: Path, size: int) -> Iterator[BufferedReader]:
    try:
        file = open_index_file(path)
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing.", REPAIR_HINT, missing=True) from None
    with file:
        actual_size = os.fstat(file.fileno()).st_size
        if actual_size != size:
            raise DamagedFileError(
                f"{path} has {actual_size} bytes where {size} belong.", REPAIR_HINT
            )
        yield file
