"""Small pictures, made once and kept on disk."""

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
    """How large a thumbnail is; its long side in pixels is in `EDGES_PX`."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


EDGES_PX = {Size.SMALL: 160, Size.MEDIUM: 400, Size.LARGE: 1280}


class ThumbnailCache:
    """Makes and keeps them; several threads may ask.

    Args:
        folder: Where they are kept; may be deleted at any time.
        image_loader: Decodes, in processes of its own.
        limit_mb: Megabytes (2**20) of the disk that they may take; then those that were asked for
            longest ago are dropped. 0: none are kept.
        follow_links: Whether files may lie outside of their folders, behind links.

    Attributes:
        originals: The files of which they are made.
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
        """A WebP, and what names its content: another picture has another.

        Raises:
            GoneError: The picture's file is not what was indexed.
            ForbiddenError: That lies outside of its folder, or is not named like a picture.
            DecodeError: It cannot be read.
        """
        self.originals.path(record)
        etag = hashlib.sha256(b"%d " % EDGES_PX[size] + record.digest).hexdigest()[:40]
        name = f"{etag}.webp"
        content = self._file_cache.get(name)
        if content is None:
            content = self.originals.thumbnail(record, EDGES_PX[size], "WEBP")
            # A disk that is full costs time, not the answer.
            with suppress(OSError):
                self._file_cache.put(name, content)
        return content, etag

    def close(self) -> None:
        """End the processes that decode."""
        self._image_loader.close()
