"""Verified access to the files of indexed pictures, before they are displayed or served.

A catalog is untrusted: it can name any file of this machine as a picture. A file is therefore used
only if it matches the catalog, and it is served only if its content is a picture.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock

from mmsearch.core.errors import DecodeError, ForbiddenError, GoneError
from mmsearch.core.files import clamped_mtime_ns, hash_source_file, special_file_kind
from mmsearch.core.records import PictureRecord
from mmsearch.search.image_loader import SandboxedImageLoader

MAX_CACHED_DIGESTS = 10_000
"""Maximum number of files whose digests are cached."""

StatKey = tuple[int, int, int, int, int]
"""Device, inode, size, mtime_ns and ctime_ns of a file. It changes when the content changes."""


@dataclass(frozen=True)
class _CachedFile:
    stat_key: StatKey
    digest: bytes
    format: str | None = None


class Originals:
    """Finds and verifies the files of pictures. Thread-safe.

    Args:
        image_loader: Decodes the pictures in separate processes.
        follow_links: True to allow files outside the indexed folder, behind a symbolic link.
    """

    def __init__(self, image_loader: SandboxedImageLoader, *, follow_links: bool = False) -> None:
        self._image_loader = image_loader
        self._follow_links = follow_links
        self._cache: OrderedDict[bytes, _CachedFile] = OrderedDict()
        self._lock = Lock()

    def path(self, record: PictureRecord) -> bytes:
        """Return the path of a picture's file after verifying that its content is unchanged.

        Only the first path of a picture is checked: the record holds its size and modification
        time.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or its name is not that of a picture.
        """
        return self._verify(record)[0]

    def path_and_format(self, record: PictureRecord) -> tuple[bytes, str]:
        """Return the path of a picture's file and the format of its content, such as ``JPEG``.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or its name is not that of a picture.
            DecodeError: The content is not a readable picture.
        """
        path, cached = self._verify(record)
        if cached.format is None:
            try:
                cached = replace(cached, format=self._image_loader.format(path))
            except DecodeError as error:
                raise _unreadable_error(record, error) from error
            self._store(path, cached)
        return path, cached.format or ""

    def thumbnail(self, record: PictureRecord, edge_px: int, file_format: str) -> bytes:
        """Return a thumbnail of a picture; see `SandboxedImageLoader.thumbnail`.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or its name is not that of a picture.
            DecodeError: The content is not a readable picture.
        """
        path = self.path(record)
        try:
            return self._image_loader.thumbnail(path, edge_px, file_format)
        except DecodeError as error:
            raise _unreadable_error(record, error) from error

    def _verify(self, record: PictureRecord) -> tuple[bytes, _CachedFile]:
        path = record.paths[0]
        stat_key = _read_stat_key(path)
        if stat_key is None or stat_key[2:4] != (record.size, record.mtime_ns):
            raise _gone_error(record)
        self._check_location(record, path)
        with self._lock:
            cached = self._cache.get(path)
        if cached is None or cached.stat_key != stat_key:
            try:
                cached = _CachedFile(stat_key, hash_source_file(path))
            except DecodeError as error:
                raise _gone_error(record) from error
            if _read_stat_key(path) != stat_key:
                raise _gone_error(record)
            self._store(path, cached)
        if cached.digest != record.digest:
            raise _gone_error(record)
        return path, cached

    def _check_location(self, record: PictureRecord, path: bytes) -> None:
        if not self._image_loader.can_read(path):
            raise ForbiddenError(f"The file of picture {record.id} is not named like a picture.")
        if self._follow_links:
            return
        root, real_path = os.path.realpath(record.root), os.path.realpath(path)
        if os.path.commonpath((root, real_path)) != root:
            raise ForbiddenError(
                f"The file of picture {record.id} is outside its folder, behind a link.",
                "If you indexed it with --follow-symlinks, set follow_symlinks = true.",
            )

    def _store(self, path: bytes, cached: _CachedFile) -> None:
        with self._lock:
            self._cache[path] = cached
            self._cache.move_to_end(path)
            if len(self._cache) > MAX_CACHED_DIGESTS:
                self._cache.popitem(last=False)


def _read_stat_key(path: bytes) -> StatKey | None:
    """Return the stat key of a file; None if it is missing or not a regular file."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except (OSError, ValueError):
        return None
    if special_file_kind(stat.st_mode) is not None:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, clamped_mtime_ns(stat), stat.st_ctime_ns


def _gone_error(record: PictureRecord) -> GoneError:
    return GoneError(
        f"The file of picture {record.id} is gone or has changed since it was indexed.",
        "Index its folder again.",
    )


def _unreadable_error(record: PictureRecord, error: DecodeError) -> DecodeError:
    return DecodeError(f"Picture {record.id} cannot be read: {error.message}.")
