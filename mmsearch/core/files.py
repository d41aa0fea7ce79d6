"""Helpers that open untrusted files safely and create private files and folders."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, DecodeError

if TYPE_CHECKING:
    from mmsearch.core.protocols import Modality

PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE = 0o600, 0o700

_INHERITED_FILE_MODE, _INHERITED_FOLDER_MODE = 0o064, 0o075
"""Permissions that a file and a folder inherit from the parent folder; never write for others."""

_SPECIAL_FILE_NAMES = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """The error for a path that is not a regular file.

    Args:
        kind: Kind of the file, with its article: ``a link``, ``a folder``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(f"it is {kind}, not a regular file")
        self.kind = kind


def special_file_kind(mode: int) -> str | None:
    """Return the kind of a special file, with its article; None for a regular file.

    Args:
        mode: The ``st_mode`` of the file.
    """
    if stat.S_ISREG(mode):
        return None
    return _SPECIAL_FILE_NAMES.get(stat.S_IFMT(mode), "not a regular file")


def foreign_file_error(path: Path, kind: str) -> DamagedFileError:
    """Return the error for a file in an index folder that mmsearch did not create.

    Args:
        path: Path of the file.
        kind: Kind of the file, with its article: ``a link``.
    """
    return DamagedFileError(
        f"{display_path(path)} is {kind}, which mmsearch never makes there.",
        "If the index comes from someone else, do not trust it; if not, put the real file there.",
    )


def open_regular_file(path: bytes | Path, *, follow_links: bool = True) -> BufferedReader:
    """Open a regular file for reading without blocking.

    Args:
        path: Absolute path.
        follow_links: Allow the last part of the path to be a link.

    Raises:
        NotRegularError: It is a folder, a named pipe, a device, a socket, or a link.
        OSError: It cannot be opened.
        ValueError: The path is not a valid file name.
    """
    # Opening a device may trigger an action, so check the kind of the file first.
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
"""Maximum time that the catalog can store, 2262-04-11: SQLite integers have 64 bits."""
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
"""Errors of the machine, the disk or the network that may pass, unrelated to the file's content."""


def open_source_file(path: bytes) -> BufferedReader:
    """Open a regular file for reading; refuse a FIFO, a device or a folder without blocking.

    Args:
        path: Absolute path, as the file system's bytes.

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
        raise DecodeError("not a valid file name") from error


_OWN_DESCRIPTORS = b"/proc/self/fd"

HEAD_BYTES = 64
"""Number of bytes at the start of a file by which its kind is recognized."""


@contextmanager
def content_as_file(content: bytes) -> Iterator[bytes]:
    """Provide content in memory as a file to read; yield its path, which is valid in the context.

    On Linux the file is in memory and has no name in any folder; elsewhere it is a temporary file.
    The path tells nothing about the kind of the content.

    Raises:
        DecodeError: There is no room for the content.
    """
    with ExitStack() as stack:
        try:
            path = _write_content(content, stack)
        except OSError as error:
            raise decode_error_from_os(error) from error
        yield path


def _write_content(content: bytes, stack: ExitStack) -> bytes:
    if hasattr(os, "memfd_create") and os.path.isdir(_OWN_DESCRIPTORS):  # noqa: PTH112 - bytes
        # A buffered file writes all of a large content; os.write may stop earlier.
        file: BinaryIO = stack.enter_context(os.fdopen(os.memfd_create("mmsearch"), "wb"))
        file.write(content)
        file.flush()
        return b"%b/%d" % (_OWN_DESCRIPTORS, file.fileno())
    import tempfile  # noqa: PLC0415 - Linux does not need it

    descriptor, path = tempfile.mkstemp(prefix="mmsearch-")
    stack.callback(os.unlink, path)
    # Windows opens a file for a reader only after its writer has closed it.
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return os.fsencode(path)


def choose_modality(
    modalities: Sequence[Modality], path: bytes, name: bytes | None = None
) -> Modality | None:
    """Return the modality that reads a file, or None.

    The content decides. The name decides between modalities that recognize the content, such as
    those of a TIFF and of RAW files with the structure of a TIFF, and for content that none
    recognizes.

    Args:
        modalities: All modalities.
        path: Absolute path of the file.
        name: Name of the file, if its path does not have it.

    Raises:
        DecodeError: The file cannot be read.
    """
    name = path if name is None else name
    with open_source_file(path) as file:
        try:
            head = file.read(HEAD_BYTES)
        except OSError as error:
            raise decode_error_from_os(error) from error
    by_content = [modality for modality in modalities if modality.recognizes(head)]
    by_name = [modality for modality in by_content or modalities if modality.can_read(name)]
    # Of several, the first one, ``image``, knows the least about the content.
    candidates = by_name or by_content[::-1]
    return candidates[0] if candidates else None


def clamped_mtime_ns(stat_result: os.stat_result) -> int:
    """Return a file's modification time in nanoseconds since 1970, as the catalog stores it.

    A file system may have times that do not fit in 64 bits. Times after `MAX_MTIME_NS` are mapped
    to the 18 minutes before it, times before `MIN_MTIME_NS` to the 18 minutes after it. Different
    times stay different, so a changed time is still detected.
    """
    mtime_ns = stat_result.st_mtime_ns
    if MIN_MTIME_NS <= mtime_ns <= MAX_MTIME_NS:
        return mtime_ns
    # Whole seconds collide only if they differ by a multiple of 2**31.
    offset_ns = mtime_ns % _CLAMP_WIDTH_NS
    return MAX_MTIME_NS - offset_ns if mtime_ns > 0 else MIN_MTIME_NS + offset_ns


def clamped_ctime_ns(stat_result: os.stat_result) -> int:
    """Return the time at which a file or its attributes last changed, in nanoseconds since 1970.

    Unlike its modification time, no program can set it. 0 on Windows, which does not have it, and
    for times that do not fit in 64 bits.
    """
    if os.name == "nt":
        return 0
    ctime_ns = stat_result.st_ctime_ns
    return ctime_ns if MIN_MTIME_NS <= ctime_ns <= MAX_MTIME_NS else 0


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ``~`` by a home folder; ``~name`` of an unknown user stays unchanged."""
    # Path.expanduser raises RuntimeError for an unknown user.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def hash_source_file(path: bytes) -> bytes:
    """Return the sha256 of a file's content, 32 bytes.

    Raises:
        DecodeError: The file cannot be read.
    """
    import hashlib  # noqa: PLC0415 - a query that a server answers needs only the rest of this module

    with open_source_file(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise decode_error_from_os(error) from error


def decode_error_from_os(error: OSError) -> DecodeError:
    """Return the error for a file that the operating system refused to open or read.

    The detail ``transient`` is True if the file itself is not the cause.
    """
    return DecodeError(os_error_reason(error), transient=error.errno in _TRANSIENT_ERRNOS)


def create_file(path: Path) -> BinaryIO:
    """Create a file for writing and reading, and replace an existing one.

    A link at that path is removed, never followed. Only the owner and those who may read the parent
    folder may read the file.

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
        # The umask may have removed permissions that the folder grants.
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        return os.fdopen(descriptor, "wb+")
    except BaseException:
        os.close(descriptor)
        raise


def create_folder(path: Path, *, inherit_permissions: bool = False) -> None:
    """Create a folder that only its owner may enter, and its parents, unless they exist.

    Args:
        path: The folder.
        inherit_permissions: Give the folder the permissions of its parent, except write for others.

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
    """Return the operating system's message as a clause in lower case."""
    return (error.strerror or str(error) or type(error).__name__).lower()
