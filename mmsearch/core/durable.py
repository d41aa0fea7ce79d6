"""Files that are either whole or absent, and are what they were when they are read again."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.faults import FaultPoint, reach
from mmsearch.core.records import FileStamp

TEMPORARY_SUFFIX = ".tmp"

REPAIR = "The index is damaged: 'mmsearch check' says where, 'mmsearch repair' mends it."


def publish_bytes(path: Path, data: bytes | bytearray | memoryview) -> FileStamp:
    """Write a file so that it is either whole or absent, also after a power cut.

    Args:
        path: Its place; the parent folder's name becomes part of the stamp's name.
        data: The content.

    Returns:
        Name, size and sha256 of what was written.
    """
    view = memoryview(data).cast("B")
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            reach(FaultPoint.FILE_OPENED)
            file.write(view)
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
    return stamp_of(path, view)


def stamp_of(path: Path, content: bytes | memoryview) -> FileStamp:
    """Name, size and sha256 of a file of an index that holds ``content``."""
    name = f"{path.parent.name}/{path.name}"
    return FileStamp(name, len(content), hashlib.sha256(content).hexdigest())


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
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
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing.", REPAIR, missing=True) from None
    if size != stamp.bytes:
        raise DamagedFileError(f"{path} has {size} bytes where {stamp.bytes} belong.", REPAIR)
    content: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
    if hashlib.sha256(content.data).hexdigest() != stamp.sha256:
        raise DamagedFileError(f"{path} does not match its checksum.", REPAIR)
    return content
