"""Small pictures, made once and kept on disk."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from mmsearch.core.errors import DecodeError, GoneError
from mmsearch.core.files import stored_mtime_ns
from mmsearch.core.records import Record
from mmsearch.engine.pictures import PictureReader
from mmsearch.server.kept_files import KeptFiles


class Size(StrEnum):
    """How large a thumbnail is; its long side in pixels is in `EDGES_PX`."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


EDGES_PX = {Size.SMALL: 160, Size.MEDIUM: 400, Size.LARGE: 1280}


def present(record: Record) -> bytes:
    """The path of a picture's file, if it is still what was indexed.

    Only the first of a picture's places: its size and time are the ones that are known.

    Raises:
        GoneError: It is not there, or has been changed.
    """
    path = record.paths[0]
    try:
        facts = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except OSError:
        facts = None
    if (
        facts is None
        or not stat.S_ISREG(facts.st_mode)
        or (facts.st_size, stored_mtime_ns(facts)) != (record.size, record.mtime_ns)
    ):
        raise GoneError(
            f"The file of picture {record.id} is gone or has changed since it was indexed.",
            "Index its folder again.",
        )
    return path


class Thumbnails:
    """Makes and keeps them; several threads may ask.

    Args:
        folder: Where they are kept; may be deleted at any time.
        pictures: Decodes, in processes of its own.
        limit_mb: Megabytes (2**20) of the disk that they may take; then those that were asked for
            longest ago are dropped. 0: none are kept.
    """

    def __init__(self, folder: Path, pictures: PictureReader, limit_mb: int) -> None:
        self._kept = KeptFiles(folder, limit_mb * 2**20)
        self._pictures = pictures

    def get(self, record: Record, size: Size) -> tuple[bytes, str]:
        """A WebP, and what names its content: another picture has another.

        Raises:
            GoneError: The picture's file is not what was indexed.
            DecodeError: It cannot be read.
        """
        source = present(record)
        facts = f"{record.mtime_ns} {record.size} {EDGES_PX[size]} ".encode()
        tag = hashlib.sha256(facts + source).hexdigest()[:40]
        name = f"{tag}.webp"
        content = self._kept.get(name)
        if content is None:
            try:
                content = self._pictures.thumbnail(source, EDGES_PX[size], "WEBP")
            except DecodeError as error:
                raise DecodeError(
                    f"Picture {record.id} cannot be read: {error.message}."
                ) from error
            # A disk that is full costs time, not the answer.
            with suppress(OSError):
                self._kept.put(name, content)
        return content, tag

    def close(self) -> None:
        """End the processes that decode."""
        self._pictures.close()
