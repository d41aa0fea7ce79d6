"""Local files as the parts of sources."""

from __future__ import annotations

import os
from pathlib import Path

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.core.files import os_error_reason
from mmsearch.sources._keys import expand_braces


def absolute_path(uri: bytes) -> bytes:
    """Return the absolute path of a path or a pattern, which may begin with ``~``.

    Raises:
        SourceError: The path is empty or not valid.
    """
    if not uri or b"\0" in uri:
        raise SourceError("The path of the source is empty or not valid.", "Give a path.")
    return os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100, PTH111 - bytes


def expand_paths(absolute: bytes) -> list[bytes]:
    """Return the paths that an absolute path or a brace pattern stands for.

    Raises:
        SourceError: The pattern stands for too many paths.
    """
    return [absolute] if os.path.lexists(absolute) else expand_braces(absolute)


def file_stamp(path: bytes) -> bytes:
    """Return the size and the times of a file.

    Raises:
        SourceError: There is no such file.
    """
    try:
        return stat_stamp(os.stat(path))  # noqa: PTH116 - bytes
    except OSError as error:
        raise SourceError(
            f"{display_path(path)} cannot be read: {os_error_reason(error)}.",
            "Check the path, and that its disk is there.",
        ) from error


def stat_stamp(stat: os.stat_result) -> bytes:
    """Return the size and the times of a file as a stamp."""
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}".encode()


def to_path(path: bytes) -> Path:
    """Return bytes as a path."""
    return Path(os.fsdecode(path))
