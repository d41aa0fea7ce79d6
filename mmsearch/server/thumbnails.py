"""Thumbnails, and the cache on disk that keeps them."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from mmsearch.core.files import create_folder, open_regular_file
from mmsearch.core.records import PictureRecord
from mmsearch.search.image_loader import Originals, SandboxedImageLoader


class Size(StrEnum):
    """Size of a thumbnail; `EDGES_PX` maps it to the long side in pixels."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


EDGES_PX = {Size.SMALL: 160, Size.MEDIUM: 400, Size.LARGE: 1280}


class ThumbnailCache:
    """Creates and caches thumbnails; safe for use from several threads.

    Args:
        folder: Folder of the cache; it may be deleted at any time.
        image_loader: Decodes pictures in separate processes.
        limit_mb: Maximum disk space in megabytes (2**20 bytes); beyond it, the least recently used
            thumbnails are evicted. 0 turns the cache off.
        follow_links: True if symbolic links may lead to files outside of the indexed folders.

    Attributes:
        originals: The original files that thumbnails are made from.
    """

    def __init__(
        self,
        folder: Path,
        image_loader: SandboxedImageLoader,
        limit_mb: int,
        *,
        follow_links: bool = False,
    ) -> None:
        self.originals = Originals(image_loader, follow_links=follow_links)
        self._file_cache = FileCache(folder, limit_mb * 2**20)
        self._image_loader = image_loader

    def get(self, record: PictureRecord, size: Size) -> tuple[bytes, str]:
        """Return a WebP thumbnail and its ETag, which depends on the content and the size.

        Raises:
            GoneError: The picture's file is not the one that was indexed.
            ForbiddenError: The file is outside of its folder, or not named like a picture.
            DecodeError: The file cannot be read.
        """
        if not record.uri:
            self.originals.path(record)
        # A cache of an earlier version may hold thumbnails in other colour spaces.
        part = b"%d " % record.locator.part if record.locator.part else b""
        key = b"sRGB %d " % EDGES_PX[size] + part + record.digest
        etag = hashlib.sha256(key).hexdigest()[:40]
        name = f"{etag}.webp"
        content = self._file_cache.get(name)
        if content is None:
            content = self.originals.thumbnail(record, EDGES_PX[size], "WEBP")
            # On a full disk the thumbnail is still returned, only not cached.
            with suppress(OSError):
                self._file_cache.put(name, content)
        return content, etag

    def close(self) -> None:
        """Stop the decoder processes."""
        self._image_loader.close()


BLOCK_BYTES = 4096
"""Block size of a disk in bytes; a file takes whole blocks."""

LOW_WATER = 0.9
"""Share of the limit that eviction leaves, so that not every new file causes an eviction."""

RECOUNT_FRACTION = 1 / 16
"""Share of the limit that may be written before sizes are recounted: other processes write too."""

ATIME_UPDATE_INTERVAL_S = 60.0
"""Seconds after which a use updates the access time again."""

TEMP_PREFIX = ".unfinished-"
"""Prefix of the names of files that are being written."""

TEMP_MAX_AGE_S = 3600.0
"""Seconds after which a temporary file counts as abandoned."""


class FileCache:
    """Cache of files by name. Threads and processes may share the folder.

    There are no file locks: files are written atomically, concurrent evictions remove the same
    files, and anything in the folder may be deleted at any time. The cache sets the access time of
    a file at each use, because file systems update it rarely or not at all.

    Args:
        folder: Folder that contains nothing else.
        limit_bytes: Maximum disk space of all files together; each concurrent process may exceed
            it by a sixteenth. 0 turns the cache off: no file is written, and existing files are
            not read.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._eviction_lock = threading.Lock()
        self._counted_bytes: int | None = None
        self._written_bytes = 0

    def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it is not cached."""
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
        """Store a file, and evict others if the limit is exceeded.

        Args:
            name: File name; its first two characters are the name of its subfolder.
            content: The complete content.

        Raises:
            OSError: The file cannot be written.
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
        """Evict files beyond the limit, and return the bytes that remain."""
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
            # Another process may have removed it, or keep it open where that prevents removal.
            with suppress(OSError):
                path.unlink()
            total_bytes -= disk_bytes
        return total_bytes

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Yield access time (ns), disk bytes and path of each cache file; skip other files."""
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
    """Write a file completely or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMP_PREFIX, delete=False) as file:
        temp_path = Path(file.name)
        try:
            file.write(content)
            file.close()
            temp_path.replace(path)
        except OSError:
            temp_path.unlink(missing_ok=True)
            raise
