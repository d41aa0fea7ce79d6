"""Thumbnails, cached on disk."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from mmsearch.core.records import PictureRecord
from mmsearch.search.image_loader import SandboxedImageLoader
from mmsearch.search.originals import Originals
from mmsearch.server.file_cache import FileCache


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
        self.originals.path(record)
        etag = hashlib.sha256(b"%d " % EDGES_PX[size] + record.digest).hexdigest()[:40]
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
