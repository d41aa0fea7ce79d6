"""Opening files that nobody vetted, and creating files that only their owner may read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, DecodeError

PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE = 0o600, 0o700

_INHERITED_FILE_MODE, _INHERITED_FOLDER_MODE = 0o064, 0o075
"""Permissions that a file and a folder take over from the folder they lie in: never for others to
write."""

_SPECIAL_FILE_NAMES = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """A path leads to something else than a regular file.

    Args:
        kind: What it is: ``a link``, ``a folder``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(f"it is {kind}, not a regular file")
        self.kind = kind


def special_file_kind(mode: int) -> str | None:
    """Return what a file is that is not a regular one, with its article; None for a regular one.

    Args:
        mode: Its ``st_mode``.
    """
    if stat.S_ISREG(mode):
        return None
    return _SPECIAL_FILE_NAMES.get(stat.S_IFMT(mode), "not a regular file")


def foreign_file_error(path: Path, kind: str) -> DamagedFileError:
    """Return the error for something in the folder of an index that no writer has put there.

    Args:
        path: Where it is.
        kind: What it is: ``a link``.
    """
    return DamagedFileError(
        f"{display_path(path)} is {kind}, which mmsearch never makes there.",
        "If the index is someone else's, do not trust it; else put the file itself there.",
    )


def open_regular_file(path: bytes | Path, *, follow_links: bool = True) -> BufferedReader:
    """Open a regular file for reading, without waiting for anything.

    Args:
        path: Absolute.
        follow_links: Whether the last part of the path may be a link.

    Raises:
        NotRegularError: It is a folder, a named pipe, a device, a socket, or a link.
        OSError: It cannot be opened.
        ValueError: No file can have such a name.
    """
    # A device may act on being opened, so that its kind is looked up before.
    _check_regular(os.stat(path, follow_symlinks=follow_links).st_mode)  # noqa: PTH116 - bytes paths
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_BINARY", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    try:
        _check_regular(os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check_regular(mode: int) -> None:
    kind = special_file_kind(mode)
    if kind is not None:
        raise NotRegularError(kind)


MAX_MTIME_NS = 2**63 - 1
"""2262-04-11: SQLite stores integers of 64 bits."""
MIN_MTIME_NS = -(2**63)
_CLAMP_WIDTH_NS = 2**40
_TRANSIENT_ERRNOS = frozenset(
    getattr(errno, name)
    for name in [
        "EMFILE",
        "ENFILE",
        "ENOMEM",
        "EIO",
        "ENOSPC",
        "EDQUOT",
        "EAGAIN",
        "EINTR",
        "ENOBUFS",
        "ENOLCK",
        "ESTALE",
        "ETIMEDOUT",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
    ]
    if hasattr(errno, name)
)
"""Errors of a machine, a disk or a network that may go away, whatever the file holds."""


def open_source_file(path: bytes) -> BufferedReader:
    """Open a regular file for reading; a FIFO, a device or a folder is refused, not waited for.

    Args:
        path: Absolute, as the file system's bytes.

    Raises:
        DecodeError: It cannot be opened, or is not a regular file.
    """
    try:
        return open_regular_file(path)
    except NotRegularError as error:
        raise DecodeError("not a regular file") from error
    except OSError as error:
        raise decode_error_from_os(error) from error
    except ValueError as error:
        raise DecodeError("no file can have such a name") from error


def clamped_mtime_ns(stat_result: os.stat_result) -> int:
    """Return a file's modification time in nanoseconds since 1970, as the catalog stores it.

    A file system may hold times that 64 bits do not: those after `MAX_MTIME_NS` become one of the last
    18 minutes before it, those before `MIN_MTIME_NS` one of the first 18 minutes after it. Different
    times stay different there, so that a changed time still shows.
    """
    mtime_ns = stat_result.st_mtime_ns
    if MIN_MTIME_NS <= mtime_ns <= MAX_MTIME_NS:
        return mtime_ns
    # Whole seconds meet again only after 2**31 of them.
    offset_ns = mtime_ns % _CLAMP_WIDTH_NS
    return MAX_MTIME_NS - offset_ns if mtime_ns > 0 else MIN_MTIME_NS + offset_ns


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return a path whose ``~`` is a home folder; ``~name`` of an unknown user stays as it is."""
    # The method of Path raises RuntimeError for an unknown user.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def hash_source_file(path: bytes) -> bytes:
    """The digest of a file's content, 32 bytes.

    Raises:
        DecodeError: The file cannot be read.
    """
    with open_source_file(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise decode_error_from_os(error) from error


def decode_error_from_os(error: OSError) -> DecodeError:
    """Return the error of a file that the operating system refused to open or read.

    The fact ``transient`` is set if the file itself is not the reason.
    """
    return DecodeError(os_error_reason(error), transient=error.errno in _TRANSIENT_ERRNOS)


def create_file(path: Path) -> BinaryIO:
    """Create a file for writing and reading in the place of what has the name.

    A link of that name is removed, never followed. Only the owner may read the file, and whoever
    may read the folder that it lies in.

    Raises:
        OSError: It cannot be created.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    mode = PRIVATE_FILE_MODE | _INHERITED_FILE_MODE & path.parent.stat().st_mode
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, mode)
    try:
        # The umask may have taken away what the folder allows.
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        return os.fdopen(descriptor, "wb+")
    except BaseException:
        os.close(descriptor)
        raise


def create_folder(path: Path, *, inherit_permissions: bool = False) -> None:
    """Create a folder that only its owner may enter, and folders above it, unless they exist.

    Args:
        path: The folder.
        inherit_permissions: Whoever may read the folder above may enter it, too.

    Raises:
        FileExistsError: Something else has the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = PRIVATE_FOLDER_MODE
    if inherit_permissions:
        mode |= _INHERITED_FOLDER_MODE & path.parent.stat().st_mode
    try:
        path.mkdir(PRIVATE_FOLDER_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(mode)


def os_error_reason(error: OSError) -> str:
    """What the operating system says, as one clause."""
    return (error.strerror or str(error) or type(error).__name__).lower()
