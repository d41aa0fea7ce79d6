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
from mmsearch.core.files import NotRegularError, create_file, not_ours, open_regular_file
from mmsearch.core.records import FileStamp
from mmsearch.storage.failpoints import FaultPoint, reach

TEMPORARY_SUFFIX = ".tmp"

REPAIR = "The index is damaged: 'mmsearch check' says where, 'mmsearch repair' mends it."


class Publication:
    """A file that is being written: it counts when its `publishing` ends without an error.

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

    def stamp(self, path: Path) -> FileStamp:
        """Name, size and sha256 of what was written, as the file ``path``."""
        return FileStamp(f"{path.parent.name}/{path.name}", self._size, self._digest.hexdigest())


@contextmanager
def publishing(path: Path) -> Iterator[Publication]:
    """Write a file piece by piece so that it is either whole or absent, also after a power cut.

    Args:
        path: Its place; the parent folder's name becomes part of the stamp's name.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with create_file(temporary) as file:
            reach(FaultPoint.FILE_OPENED)
            yield Publication(temporary, file)
            file.flush()
            reach(FaultPoint.FILE_WRITTEN)
            os.fsync(file.fileno())
        reach(FaultPoint.FILE_SYNCED)
        temporary.replace(path)
        reach(FaultPoint.FILE_RENAMED)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
    reach(FaultPoint.FILE_PUBLISHED)


def publish_bytes(path: Path, data: bytes | bytearray | memoryview) -> FileStamp:
    """Write a whole file as `publishing` does.

    Args:
        path: Its place.
        data: The content.

    Returns:
        Name, size and sha256 of what was written.
    """
    with publishing(path) as file:
        file.write(data)
    return file.stamp(path)


def stamp_of(path: Path, content: bytes | memoryview) -> FileStamp:
    """Name, size and sha256 of a file of an index that holds ``content``."""
    name = f"{path.parent.name}/{path.name}"
    return FileStamp(name, len(content), hashlib.sha256(content).hexdigest())


def open_index_file(path: Path) -> BufferedReader:
    """Open a file of an index for reading.

    Raises:
        DamagedFileError: It is a link, or no regular file.
        OSError: It cannot be opened.
    """
    try:
        return open_regular_file(path, follow_links=False)
    except NotRegularError as error:
        raise not_ours(path, error.kind) from None


def file_sha256(path: Path) -> str:
    """The sha256 of a file of an index, in hexadecimal digits.

    Raises:
        DamagedFileError: It is a link, or no regular file.
    """
    with open_index_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
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
    with _of_size(path, size) as file:
        if not size:
            return np.empty(0, np.uint8)
        content: NDArray[np.uint8] = np.memmap(file, dtype=np.uint8, mode="r")
    return content


def read_verified(path: Path, stamp: FileStamp) -> NDArray[np.uint8]:
    """Map a file of the index into memory after its size and checksum were found right.

    Args:
        path: The file.
        stamp: What the catalog says of it.

    Returns:
        uint8 (bytes,), read-only, backed by the file.

    Raises:
        DamagedFileError: The file has another size or checksum, or is missing.
    """
    content = map_file(path, stamp.bytes)
    if hashlib.sha256(content.data).hexdigest() != stamp.sha256:
        raise DamagedFileError(f"{path} does not match its checksum.", REPAIR)
    return content


def read_whole(path: Path, stamp: FileStamp) -> bytes:
    """Read a file of the index into memory; its size and checksum are compared.

    Unlike with `read_verified`, a disk that fails raises an error and ends no process.

    Args:
        path: The file.
        stamp: What the catalog says of it.

    Raises:
        DamagedFileError: The file has another size or checksum, or is missing.
        OSError: It cannot be read.
    """
    with _of_size(path, stamp.bytes) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != stamp.sha256:
        raise DamagedFileError(f"{path} does not match its checksum.", REPAIR)
    return content


def verify_file(path: Path, stamp: FileStamp) -> None:
    """Compare the size and the checksum of a file of the index, piece by piece.

    Raises:
        DamagedFileError: The file has another size or checksum, or is missing.
        OSError: It cannot be read.
    """
    with _of_size(path, stamp.bytes) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != stamp.sha256:
            raise DamagedFileError(f"{path} does not match its checksum.", REPAIR)


@contextmanager
def _of_size(path: Path, size: int) -> Iterator[BufferedReader]:
    try:
        file = open_index_file(path)
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing.", REPAIR, missing=True) from None
    with file:
        found = os.fstat(file.fileno()).st_size
        if found != size:
            raise DamagedFileError(f"{path} has {found} bytes where {size} belong.", REPAIR)
        yield file
