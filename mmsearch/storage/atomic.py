"""Atomic and durable writes, and verified reads, of the files of an index."""

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

from mmsearch.core.errors import DamagedFileError, Hint
from mmsearch.core.files import NotRegularError, create_file, foreign_file_error, open_regular_file
from mmsearch.core.records import FileRef
from mmsearch.storage.failpoints import FailPoint, hit_failpoint

TEMPORARY_SUFFIX = ".tmp"

REPAIR_HINT = Hint(
    "{} to repair it.",
    "Call index.check() to list all damage of the index, and index.repair()",
    "Run 'mmsearch check' to list all damage of the index, and 'mmsearch repair'",
)


class AtomicFile:
    """A file that is being written; it is published when `atomic_file` ends without an error.

    It is a `StoreFile`.

    Args:
        path: Temporary path.
        file: The file at that path.
        name: Name of the published file in its references.

    Attributes:
        path: Temporary path. Written bytes can be read there after `flush`.
    """

    def __init__(self, path: Path, file: BinaryIO, name: str) -> None:
        self.path = path
        self._file = file
        self._name = name
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._digest.update(view)
        self._size += len(view)

    def flush(self) -> None:
        """Flush buffers so that all written bytes can be read at `path`."""
        self._file.flush()

    @property
    def size(self) -> int:
        """Number of bytes written so far."""
        return self._size

    def file_ref(self) -> FileRef:
        """Return the reference (name, size, sha256) of the content written so far."""
        return FileRef(self._name, self._size, self._digest.hexdigest())


@contextmanager
def atomic_file(path: Path, name: str | None = None) -> Iterator[AtomicFile]:
    """Write a file piece by piece so that it is complete or absent, even after a power failure.

    The temporary name follows from the final one, so that a killed writer leaves at most one file,
    which the next one replaces.

    Args:
        path: Final path; nobody else may write it at the same time.
        name: Name of the file in references; default: its name with that of its folder.
    """
    temporary_path = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with create_file(temporary_path) as file:
            hit_failpoint(FailPoint.FILE_OPENED)
            yield AtomicFile(temporary_path, file, name or f"{path.parent.name}/{path.name}")
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
    """Write a whole file with `atomic_file`.

    Args:
        path: Final path; the name of its parent folder is part of the name in the reference.
        data: The content.

    Returns:
        The reference to the file: its name, size and sha256.
    """
    with atomic_file(path) as file:
        file.write(data)
    return file.file_ref()


def make_file_ref(path: Path, content: bytes | memoryview) -> FileRef:
    """Return the reference (name, size, sha256) of an index file with this content."""
    name = f"{path.parent.name}/{path.name}"
    return FileRef(name, len(content), hashlib.sha256(content).hexdigest())


def open_index_file(path: Path) -> BufferedReader:
    """Open a file of an index for reading.

    Raises:
        DamagedFileError: It is a link, or not a regular file.
        OSError: It cannot be opened.
    """
    try:
        return open_regular_file(path, follow_links=False)
    except NotRegularError as error:
        raise foreign_file_error(path, error.kind) from None


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file of an index, in hexadecimal digits.

    Raises:
        DamagedFileError: It is a link, or not a regular file.
    """
    with open_index_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames in a folder durable; a no-op on Windows, which cannot open folders."""
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
        size: Expected size in bytes.

    Returns:
        uint8 (bytes,), read-only, backed by the file.

    Raises:
        DamagedFileError: The file has another size, is missing, or is not a regular file.
    """
    with _open_checked_size(path, size) as file:
        if not size:
            return np.empty(0, np.uint8)
        content: NDArray[np.uint8] = np.memmap(file, dtype=np.uint8, mode="r")
    return content


def read_verified_bytes(path: Path, file_ref: FileRef) -> bytes:
    """Read a file of the index into memory, and verify its size and checksum.

    Unlike with `map_file`, a failing disk raises an error instead of killing the process.

    Args:
        path: The file.
        file_ref: Its name, size and sha256 as recorded in the catalog.

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
    """Verify the size and the checksum of a file of the index, reading it piece by piece.

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
                f"{path} has {actual_size} bytes instead of {size}.", REPAIR_HINT
            )
        yield file
