"""Local copies of originals that are in no folder, so that they are sent in parts, too."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmsearch.api import Index
from mmsearch.core.records import PictureRecord
from mmsearch.search.image_loader import SandboxedImageLoader

MAX_COPIES_BYTES = 1 << 30
"""Maximum size of all copies together, in bytes; the newest one may be larger."""

MAX_LOADED_BYTES = 1 << 28
"""Maximum size of the contents that are in memory at a time, unless a single one is larger."""


@dataclass(frozen=True, eq=False)
class OriginalCopy:
    """A copy of an original. Its file exists for as long as this object.

    Attributes:
        path: The file.
        name: Name of the original, for display.
        image_format: Name of its format.
        size: Size in bytes.
    """

    path: Path
    name: str
    image_format: str
    size: int


class OriginalCopies:
    """Copies of the originals that were sent last; safe for use from several threads.

    A player reads a film in many ranges, each of which would fetch it from its source again.

    Args:
        image_loader: Checks in other processes that an original is a picture.
    """

    def __init__(self, image_loader: SandboxedImageLoader) -> None:
        self._image_loader = image_loader
        self._folder: Path | None = None
        self._copies: OrderedDict[tuple[str, int, bytes], OriginalCopy] = OrderedDict()
        self._loading: set[tuple[str, int, bytes]] = set()
        self._loaded_bytes = 0
        self._changed = threading.Condition()

    def get(self, index: Index, record: PictureRecord) -> OriginalCopy:
        """Return a copy of an original, whose content is that which was indexed.

        Raises:
            MMSearchError: See `Index.read_original`.
        """
        key = (index.name, record.id, record.digest)
        with self._take_turn(key, record.size):
            copy = self._copies.get(key)
            if copy is None:
                copy = self._copy(index, record)
            with self._changed:
                self._copies[key] = copy
                self._copies.move_to_end(key)
                self._evict()
        return copy

    def close(self) -> None:
        """Delete the copies."""
        with self._changed:
            self._copies.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _take_turn(self, key: tuple[str, int, bytes], size: int) -> Iterator[None]:
        """Wait until nobody loads the same original, and there is memory for another one."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    key not in self._loading
                    and (not self._loading or self._loaded_bytes + size <= MAX_LOADED_BYTES)
                )
            )
            self._loading.add(key)
            self._loaded_bytes += size
        try:
            yield
        finally:
            with self._changed:
                self._loading.remove(key)
                self._loaded_bytes -= size
                self._changed.notify_all()

    def _copy(self, index: Index, record: PictureRecord) -> OriginalCopy:
        content = index.read_original(record.id, public_only=True)
        name = os.path.basename(os.fsdecode(record.key))  # noqa: PTH119 - keys may be URLs
        suffix = os.path.splitext(name)[1]  # noqa: PTH122
        with self._changed:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="mmsearch-"))
        number, path_text = tempfile.mkstemp(
            suffix if suffix[1:].isalnum() else "", dir=self._folder
        )
        path = Path(path_text)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            image_format = self._image_loader.format(os.fsencode(path))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        copy = OriginalCopy(path, name, image_format, len(content))
        weakref.finalize(copy, path.unlink, missing_ok=True)
        return copy

    def _evict(self) -> None:
        total = sum(copy.size for copy in self._copies.values())
        while total > MAX_COPIES_BYTES and len(self._copies) > 1:
            total -= self._copies.popitem(last=False)[1].size
