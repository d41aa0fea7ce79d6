"""The name of every file of an index, durable writing, and the writer's lock.

::

    <home>/<name>/
      catalog.sqlite        metadata, and which files count
      segments/000001.npz   immutable vectors
      ann/000001.faiss      a vector index built from segments; derived
      lock, lock.holder     one writer at a time

A file is written under a temporary name, synced, renamed, and its folder synced: after that only
a transaction of the catalog makes it count.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError, IndexLockedError, UsageError
from mmsearch.core.records import FileStamp

TEMPORARY_SUFFIX = ".tmp"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class IndexLayout:
    """Where the files of one index are.

    Attributes:
        folder: The index's own folder.
    """

    folder: Path

    @classmethod
    def of(cls, home: Path, name: str) -> IndexLayout:
        """The layout of an index by name.

        Raises:
            UsageError: The name cannot be a folder's name.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be the name of an index.",
                "Use letters, digits, '.', '_' and '-', beginning with a letter or a digit.",
            )
        return cls(home / name)

    @property
    def name(self) -> str:
        """The index's name."""
        return self.folder.name

    @property
    def catalog(self) -> Path:
        """The SQLite database."""
        return self.folder / "catalog.sqlite"

    @property
    def lock(self) -> Path:
        """The file that the one writer locks."""
        return self.folder / "lock"

    @property
    def lock_holder(self) -> Path:
        """Who holds the lock, for messages."""
        return self.folder / "lock.holder"

    def exists(self) -> bool:
        """Whether there is an index here."""
        return self.catalog.exists()

    def create(self) -> None:
        """Make the folders of a new index."""
        for folder in (self.folder, self.folder / "segments", self.folder / "ann"):
            folder.mkdir(parents=True, exist_ok=True)

    def segment(self, number: int) -> Path:
        """The file of a segment."""
        return self.folder / "segments" / f"{number:06d}.npz"

    def built(self, number: int, suffix: str) -> Path:
        """The file of a built vector index."""
        return self.folder / "ann" / f"{number:06d}.{suffix}"

    def next_built_number(self) -> int:
        """One more than the highest number in ann/, so that no name is used twice."""
        numbers = [
            int(path.stem) for path in (self.folder / "ann").iterdir() if path.stem.isdigit()
        ]
        return max(numbers, default=0) + 1

    def path(self, stamp: FileStamp) -> Path:
        """The file that a stamp names."""
        return self.folder / stamp.name

    def remove_orphans(self, referenced: set[str]) -> list[str]:
        """Delete files of segments/ and ann/ that no row of the catalog points at.

        Only the holder of the lock may call this.

        Args:
            referenced: Names as in `FileStamp.name`.

        Returns:
            The names that were removed.
        """
        removed = []
        for folder in ("segments", "ann"):
            for path in sorted((self.folder / folder).iterdir()):
                name = f"{folder}/{path.name}"
                if name not in referenced and path.is_file():
                    path.unlink()
                    removed.append(name)
        return removed


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
            file.write(view)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
    return FileStamp(f"{path.parent.name}/{path.name}", len(view), hashlib.sha256(view).hexdigest())


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
    hint = "The index is damaged; remove it with 'mmsearch remove' and index the folder again."
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing.", hint, missing=True) from None
    if size != stamp.bytes:
        raise DamagedFileError(f"{path} has {size} bytes where {stamp.bytes} belong.", hint)
    content: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
    if hashlib.sha256(content.data).hexdigest() != stamp.sha256:
        raise DamagedFileError(f"{path} does not match its checksum.", hint)
    return content


@contextmanager
def writer_lock(layout: IndexLayout, wait_s: float = 0.0) -> Iterator[None]:
    """Be the one writer of an index.

    The lock is the kernel's (flock): it goes with the process, however that ends.

    Args:
        layout: The index.
        wait_s: How long to wait for another writer.

    Raises:
        IndexLockedError: Another writer holds it; the message says which.
    """
    lock = filelock.FileLock(layout.lock, timeout=wait_s)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise IndexLockedError(
            f"Index {layout.name!r} is being written by {_holder(layout)}.",
            "Wait until it has finished, or stop it; queries work meanwhile.",
        ) from None
    try:
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        layout.lock_holder.write_text(json.dumps(facts))
        yield
    finally:
        with suppress(OSError):
            layout.lock_holder.unlink()
        lock.release()


def _holder(layout: IndexLayout) -> str:
    try:
        facts = json.loads(layout.lock_holder.read_text())
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
