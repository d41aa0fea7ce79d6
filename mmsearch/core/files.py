"""Opening files that nobody vetted."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BufferedReader

from mmsearch.core.errors import DecodeError


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
