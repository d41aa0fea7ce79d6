"""Values of the catalog: text that SQLite can store, times and file paths, and chunks of them.

A file path is bytes: an absolute folder, and a path relative to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from mmsearch.core.errors import DamagedFileError

Item = TypeVar("Item")

MAX_SQL_PARAMETERS = 900
"""Maximum number of parameters in one statement; SQLite before 3.32 allows at most 999."""


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield ``items`` in chunks that fit into one statement."""
    for start in range(0, len(items), MAX_SQL_PARAMETERS):
        yield items[start : start + MAX_SQL_PARAMETERS]


def storable(value: Any) -> Any:
    """Return text that can be encoded as UTF-8, and other values unchanged.

    Lone surrogates, as in file names with invalid UTF-8, become '?'.
    """
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_REPAIR_HINT = "Run 'mmsearch repair' to rebuild the catalog; it reuses all the vectors it can."

# An empty, "." or ".." component, or the NUL byte, which no path can contain.
_UNSAFE_PATH = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)|\0")


def join_path(folder: bytes, relative_path: bytes) -> bytes:
    """Join a folder and a relative path; return the folder itself for b"".

    Raises:
        DamagedFileError: The folder is not an absolute path, or the relative path leads out of it.
    """
    check_root_path(folder)
    if relative_path == b"":
        return folder
    check_relative_path(relative_path)
    return folder.rstrip(b"/") + b"/" + relative_path


def is_safe_relative_path(path: object) -> bool:
    """Return True if this is a normalized path below a root, which cannot lead out of it."""
    return isinstance(path, bytes) and not _UNSAFE_PATH.search(path)


def is_root_path(path: object) -> bool:
    """Return True if this is an absolute and normalized path of a folder."""
    return isinstance(path, bytes) and _is_normalized(path)


# All hits of a search share a few roots: the cache saves 5% of a warm search.
@lru_cache(maxsize=256)
def _is_normalized(path: bytes) -> bool:
    if b"\0" in path:
        return False
    return os.path.isabs(path) and os.path.normpath(path) == path  # noqa: PTH117 - bytes paths


def check_relative_path(path: object) -> None:
    """Raise an error unless a value read from a catalog is a path below a root.

    Raises:
        DamagedFileError: It leads out of its root, is absolute, or is not a path.
    """
    if not is_safe_relative_path(path):
        raise DamagedFileError(
            f"The catalog names a file {_abbreviate(path)}, which is not a path below a folder.",
            _REPAIR_HINT,
        )


def check_root_path(path: object) -> None:
    """Raise an error unless a value read from a catalog is the path of an indexed folder.

    Raises:
        DamagedFileError: It is not absolute and normalized, or is not a path.
    """
    if not is_root_path(path):
        raise DamagedFileError(
            f"The catalog names a folder {_abbreviate(path)}, which is not an absolute path.",
            _REPAIR_HINT,
        )


def _abbreviate(path: object) -> str:
    text = repr(path)
    return text if len(text) <= 80 else f"{text[:80]}..."


def relative_to(folder: bytes, path: bytes) -> bytes | None:
    """Return ``path`` relative to a folder; b"" if it is that folder, None if it is outside."""
    if path == folder:
        return b""
    prefix = folder.rstrip(b"/") + b"/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None
