"""The files of an index's pictures, before they are shown or handed out.

A catalog may be anybody's: it can name any file of this machine as a picture. So a file is used
only if it is what the catalog says it is, and it goes out only if its content is a picture.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock

from mmsearch.core.errors import DecodeError, ForbiddenError, GoneError
from mmsearch.core.files import kind_of, sha256_of, stored_mtime_ns
from mmsearch.core.records import Record
from mmsearch.search.image_loader import PictureReader

REMEMBERED = 10_000
"""Files whose digests are kept."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, mtime_ns and ctime_ns: a file whose content changes gets another one."""


@dataclass(frozen=True)
class _Seen:
    stamp: Stamp
    digest: bytes
    format: str | None = None


class Originals:
    """Finds the files of pictures. May be used by several threads.

    Args:
        pictures: Decodes them, in processes of its own.
        follow_links: Whether a file may lie outside of the folder that was indexed, behind a link.
    """

    def __init__(self, pictures: PictureReader, *, follow_links: bool = False) -> None:
        self._pictures = pictures
        self._follow_links = follow_links
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._lock = Lock()

    def path(self, record: Record) -> bytes:
        """Return the path of a picture's file, whose content is what was indexed.

        Only the first of a picture's paths is looked at: its size and time are the known ones.

        Raises:
            GoneError: The file is not there, or is not what was indexed.
            ForbiddenError: It lies outside of its folder, or is not named like a picture.
        """
        return self._found(record)[0]

    def path_and_format(self, record: Record) -> tuple[bytes, str]:
        """Return the path of a picture's file, and its format as its content says, as ``JPEG``.

        Raises:
            GoneError: The file is not there, or is not what was indexed.
            ForbiddenError: It lies outside of its folder, or is not named like a picture.
            DecodeError: Its content is no picture that can be read.
        """
        path, seen = self._found(record)
        if seen.format is None:
            try:
                seen = replace(seen, format=self._pictures.format(path))
            except DecodeError as error:
                raise _unreadable(record, error) from error
            self._remember(path, seen)
        return path, seen.format or ""

    def thumbnail(self, record: Record, edge_px: int, file_format: str) -> bytes:
        """Return a picture made small; see `PictureReader.thumbnail`.

        Raises:
            GoneError: The file is not there, or is not what was indexed.
            ForbiddenError: It lies outside of its folder, or is not named like a picture.
            DecodeError: Its content is no picture that can be read.
        """
        path = self.path(record)
        try:
            return self._pictures.thumbnail(path, edge_px, file_format)
        except DecodeError as error:
            raise _unreadable(record, error) from error

    def _found(self, record: Record) -> tuple[bytes, _Seen]:
        path = record.paths[0]
        stamp = _stamp(path)
        if stamp is None or stamp[2:4] != (record.size, record.mtime_ns):
            raise _gone(record)
        self._refuse_elsewhere(record, path)
        with self._lock:
            seen = self._seen.get(path)
        if seen is None or seen.stamp != stamp:
            try:
                seen = _Seen(stamp, sha256_of(path))
            except DecodeError as error:
                raise _gone(record) from error
            if _stamp(path) != stamp:
                raise _gone(record)
            self._remember(path, seen)
        if seen.digest != record.digest:
            raise _gone(record)
        return path, seen

    def _refuse_elsewhere(self, record: Record, path: bytes) -> None:
        if not self._pictures.claims(path):
            raise ForbiddenError(f"The file of picture {record.id} is not named like a picture.")
        if self._follow_links:
            return
        root, real = os.path.realpath(record.root), os.path.realpath(path)
        if os.path.commonpath((root, real)) != root:
            raise ForbiddenError(
                f"The file of picture {record.id} lies outside of its folder, behind a link.",
                "If you indexed it with --follow-symlinks, set follow_symlinks = true.",
            )

    def _remember(self, path: bytes, seen: _Seen) -> None:
        with self._lock:
            self._seen[path] = seen
            self._seen.move_to_end(path)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)


def _stamp(path: bytes) -> Stamp | None:
    """Return the stamp of a regular file; None if there is none."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except (OSError, ValueError):
        return None
    if kind_of(facts.st_mode) is not None:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, stored_mtime_ns(facts), facts.st_ctime_ns


def _gone(record: Record) -> GoneError:
    return GoneError(
        f"The file of picture {record.id} is gone or has changed since it was indexed.",
        "Index its folder again.",
    )


def _unreadable(record: Record, error: DecodeError) -> DecodeError:
    return DecodeError(f"Picture {record.id} cannot be read: {error.message}.")
