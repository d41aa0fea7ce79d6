"""Small files that are kept on disk up to a limit: those that were used longest ago go first."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mmsearch.core.files import create_folder, open_regular_file

BLOCK_BYTES = 4096
"""Bytes: files take whole blocks of a disk."""

LOW_WATER = 0.9
"""Of the limit is left when files are removed, so that it need not be done for each new one."""

RECOUNT_FRACTION = 1 / 16
"""Of the limit may be written before the folder is counted again: others write there, too."""

ATIME_UPDATE_INTERVAL_S = 60.0
"""A use is noted if the last one was longer ago."""

TEMP_PREFIX = ".unfinished-"
"""Files that are being written begin so."""

TEMP_MAX_AGE_S = 3600.0
"""Nobody is writing to one that is older."""


class FileCache:
    """Files by name. Threads and processes may share the folder.

    Nobody locks anything: each file is read or written at once, whoever removes files removes the
    same ones, and anything in the folder may be deleted at any time. When a file was used is its
    access time, which is set here, for file systems keep none or a rough one.

    Args:
        folder: Holds nothing else.
        limit_bytes: Room that all files together may take on the disk; while processes write at
            the same time, each may exceed it by a sixteenth. 0: nothing is kept, and what an
            earlier program left there is not used.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._eviction_lock = threading.Lock()
        self._counted_bytes: int | None = None
        self._written_bytes = 0

    def get(self, name: str) -> bytes | None:
        """The content of a file; None if it is not kept."""
        if not self._limit_bytes:
            return None
        path = self._path(name)
        try:
            with open_regular_file(path, follow_links=False) as file:
                content, file_stat = file.read(), os.fstat(file.fileno())
        except OSError:
            return None
        now_ns = time.time_ns()
        if now_ns - file_stat.st_atime_ns > ATIME_UPDATE_INTERVAL_S * 1e9:
            with suppress(OSError):
                os.utime(path, ns=(now_ns, file_stat.st_mtime_ns))
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a file, and remove others if it must be.

        Args:
            name: Of a file; its first two characters name the folder that it is put in.
            content: Whole.

        Raises:
            OSError: It cannot be written.
        """
        disk_bytes = _disk_bytes(len(content))
        if disk_bytes > self._limit_bytes:
            return
        path = self._path(name)
        create_folder(self._folder)
        create_folder(path.parent)
        _write_atomic(path, content)
        with self._eviction_lock:
            self._written_bytes += disk_bytes
            if self._needs_eviction():
                self._counted_bytes, self._written_bytes = self._evict(), 0

    def _needs_eviction(self) -> bool:
        if (
            self._counted_bytes is None
            or self._written_bytes > RECOUNT_FRACTION * self._limit_bytes
        ):
            return True
        return self._counted_bytes + self._written_bytes > self._limit_bytes

    def _evict(self) -> int:
        """Remove what is too much; the bytes that are left."""
        files = sorted(self._files())
        total_bytes = sum(disk_bytes for _, disk_bytes, _ in files)
        if total_bytes <= self._limit_bytes:
            return total_bytes
        temp_cutoff_ns = time.time_ns() - TEMP_MAX_AGE_S * 1e9
        for atime_ns, disk_bytes, path in files:
            if total_bytes <= LOW_WATER * self._limit_bytes:
                break
            if path.name.startswith(TEMP_PREFIX) and atime_ns > temp_cutoff_ns:
                continue
            # Somebody else was faster, or reads it where that forbids it.
            with suppress(OSError):
                path.unlink()
            total_bytes -= disk_bytes
        return total_bytes

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """When each was used, the room that it takes, and where it is; others are left alone."""
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                file_stat = path.lstat()
                is_cache_file = path.name.startswith((path.parent.name, TEMP_PREFIX))
                if (
                    is_cache_file
                    and stat.S_ISREG(file_stat.st_mode)
                    and not path.parent.is_symlink()
                ):
                    yield file_stat.st_atime_ns, _disk_bytes(file_stat.st_size), path

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _disk_bytes(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _write_atomic(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMP_PREFIX, delete=False) as file:
        temp_path = Path(file.name)
        try:
            file.write(content)
            file.close()
            temp_path.replace(path)
        except OSError:
            temp_path.unlink(missing_ok=True)
            raise
