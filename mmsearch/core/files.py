"""Opening files that nobody vetted."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BufferedReader

from mmsearch.core.errors import DecodeError

LATEST_NS = 2**63 - 1
"""2262-04-11: SQLite stores integers of 64 bits."""
EARLIEST_NS = -(2**63)
_CLAMP_WIDTH_NS = 2**40


def open_regular(path: bytes) -> BufferedReader:
    """Open a regular file for reading; a FIFO, a device or a folder is refused, not waited for.

    Args:
        path: Absolute, as the file system's bytes.

    Raises:
        DecodeError: It cannot be opened, or is not a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise DecodeError(reason_of(error)) from error
    except ValueError as error:
        raise DecodeError("no file can have such a name") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DecodeError("not a regular file")
    return os.fdopen(descriptor, "rb")


def stored_mtime_ns(facts: os.stat_result) -> int:
    """Return a file's modification time in nanoseconds since 1970, as the catalog stores it.

    A file system may hold times that 64 bits do not: those after `LATEST_NS` become one of the last
    18 minutes before it, those before `EARLIEST_NS` one of the first 18 minutes after it. Different
    times stay different there, so that a changed time still shows.
    """
    exact = facts.st_mtime_ns
    if EARLIEST_NS <= exact <= LATEST_NS:
        return exact
    # Whole seconds meet again only after 2**31 of them.
    shift = exact % _CLAMP_WIDTH_NS
    return LATEST_NS - shift if exact > 0 else EARLIEST_NS + shift


def sha256_of(path: bytes) -> bytes:
    """The digest of a file's content, 32 bytes.

    Raises:
        DecodeError: The file cannot be read.
    """
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise DecodeError(reason_of(error)) from error


def reason_of(error: OSError) -> str:
    """What the operating system says, as one clause."""
    return (error.strerror or type(error).__name__).lower()
