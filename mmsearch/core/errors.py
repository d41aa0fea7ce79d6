"""The exceptions of mmsearch with their exit codes, and the translation of operating system errors.

::

    MMSearchError                      a message, a hint, an exit code, an HTTP status
    ├── UsageError               2     the request is invalid
    │   ├── InvalidQueryError          empty query, k below one
    │   ├── UnknownIndexError          no index of that name
    │   ├── UnknownNameError           no plugin, model, root or setting of that name
    │   └── SourceError                the folder or file to index or to query with is unusable
    ├── StateError               1     the state of the index does not allow the request
    │   ├── IndexLockedError           another writer holds the index
    │   ├── EncoderMismatchError       the index was built with another encoder
    │   ├── LocalSocketError           this process cannot serve commands over a local socket
    │   ├── SchemaError                the catalog was written by a newer mmsearch
    │   ├── InspectionError      4     the index could not be checked for damage
    │   ├── DamagedFileError           a file of the index does not match its checksum
    │   └── StorageError               the operating system refuses to read, write or allocate
    │       └── DiskFullError          the disk or a quota is full
    ├── ModelUnavailableError    1     weights are not on this machine and cannot be fetched
    │   ├── DownloadError              a download stopped; what has arrived is kept
    │   └── ChecksumError              a file is not the one that was announced or exported
    ├── MissingExtraError        1     an optional library is not installed
    ├── VectorError              1     an array is not valid for the protocol
    │   ├── DimensionError             wrong number of columns
    │   └── IndexLimitError            the vector index cannot return that many neighbours
    ├── GoneError                1     the file of a picture is gone or has changed
    ├── BusyError                1     too many requests are waiting
    │   └── DeadlineError              a request exceeded its deadline
    ├── DeviceMemoryError        1     the memory of a GPU is too small, even for one item
    ├── OutputError              1     standard output cannot be written
    ├── ForbiddenError           1     the server's rules forbid the request
    ├── ServerError              1     a server responded with an error or an invalid response
    │   ├── UnreachableError           the server does not respond
    │   └── UnauthorizedError          the server requires a valid token
    └── DecodeError              3     one picture cannot be read; recorded, the run goes on
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

from mmsearch.core.display import display_path


class Hint(str):
    """A next step in the words of Python, which also has the words of the command line.

    Args:
        template: The sentence; ``{}`` stands for the words that differ.
        python: These words for someone who calls the Python API.
        command: These words for someone who types commands.
    """

    command: str
    """The sentence for the command line."""

    def __new__(cls, template: str, python: str, command: str) -> Self:  # noqa: D102
        hint = super().__new__(cls, template.replace("{}", python))
        hint.command = template.replace("{}", command)
        return hint

    def __reduce__(self) -> tuple[type[Hint], tuple[str, str, str]]:
        # Errors travel between processes.
        return Hint, ("{}", str(self), self.command)


class MMSearchError(Exception):
    """An error whose text may be shown to the user as it stands.

    Args:
        message: One sentence that says what is wrong with which input.
        hint: The next step; may be empty. A `Hint` if the command line says it in other words.
        **details: The values behind the message, for programs.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, hint: str = "", **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    @property
    def command_text(self) -> str:
        """The text for someone who types commands; ``str(error)`` is for a Python program."""
        return f"{self.message} {getattr(self.hint, 'command', self.hint)}".strip()

    @property
    def served_text(self) -> str:
        """The text for clients of a server, whose operator types commands."""
        return self.command_text


class UsageError(MMSearchError):
    """The request is invalid."""

    exit_code = 2
    http_status = 400

    @property
    def served_text(self) -> str:
        """The text for clients of a server, in the words of the API."""
        return str(self)


class InvalidQueryError(UsageError):
    """The query is empty or invalid."""


class UnknownIndexError(UsageError):
    """There is no index of that name."""

    http_status = 404


class UnknownNameError(UsageError):
    """There is no plugin, model, root or setting of that name."""

    http_status = 404


class SourceError(UsageError):
    """A folder or file given by the user cannot be used."""


class StateError(MMSearchError):
    """The state of the index does not allow the request."""

    http_status = 409


class IndexLockedError(StateError):
    """Another writer holds the index."""


class LocalSocketError(StateError):
    """This process cannot serve commands over a local socket."""


class EncoderMismatchError(StateError):
    """The index was built with another encoder."""


class SchemaError(StateError):
    """The catalog was written by a newer mmsearch."""


class InspectionError(StateError):
    """The index could not be checked for damage; nothing was changed."""

    exit_code = 4
    http_status = 503


class DamagedFileError(StateError):
    """A file of the index is damaged, as a checksum or a contradiction proves."""

    http_status = 500


class StorageError(StateError):
    """The operating system refuses to read, write or allocate; this proves no damage.

    The detail ``errno`` is the error number, if known.
    """

    http_status = 503


class DiskFullError(StorageError):
    """A disk or a disk quota is full."""

    http_status = 507


class ModelUnavailableError(MMSearchError):
    """The weights of a model are not on this machine and cannot be fetched."""

    http_status = 503


class DownloadError(ModelUnavailableError):
    """A download stopped before its end; the next one continues from what has arrived.

    The detail ``kept_bytes`` is the size of what has arrived.
    """


class ChecksumError(ModelUnavailableError):
    """A file is not the one that was announced, pinned or exported; it is not used."""


class MissingExtraError(MMSearchError):
    """A feature needs a library that is not installed."""

    http_status = 501

    @classmethod
    def for_extra(cls, feature: str, package: str | None, extra: str) -> MissingExtraError:
        """Return the error for a missing package of an extra.

        Args:
            feature: Subject of the sentence: the feature that needs the package.
            package: Name of the package.
            extra: Name of the extra in pyproject.toml that installs it.
        """
        return cls(
            f"{feature} needs the Python package {package!r}, which is not installed.",
            f"Install it from your clone of mmsearch with: pip install '.[{extra}]'",
        )


class VectorError(MMSearchError):
    """An array is not valid for the protocol."""


class DimensionError(VectorError):
    """Vectors have the wrong number of columns."""

    http_status = 400


class IndexLimitError(VectorError):
    """The vector index cannot return that many neighbours."""

    http_status = 400


class GoneError(MMSearchError):
    """The file of a picture is gone, or has changed since it was indexed."""

    http_status = 410


class BusyError(MMSearchError):
    """Too many requests are waiting to be answered in a reasonable time."""

    http_status = 503


class DeadlineError(BusyError):
    """A request exceeded its deadline."""


class ForbiddenError(MMSearchError):
    """The rules of the server forbid the request."""

    http_status = 403


class OutputError(MMSearchError):
    """Standard output cannot be written."""

    @classmethod
    def from_os_error(cls, error: OSError) -> OutputError:
        """Return the error for a failed write."""
        return cls(
            f"Standard output cannot be written: {error.strerror or error}.",
            "Redirect the output elsewhere and run the command again.",
        )


class DeviceMemoryError(MMSearchError):
    """The memory of a device is too small, even for one item; other processes may use it too.

    The detail ``device`` is its name.
    """

    http_status = 503


class ServerError(MMSearchError):
    """A server responded with an error or an invalid response.

    The detail ``status`` is the HTTP status of the response, ``kind`` the server's error name.
    """

    http_status = 502


class UnreachableError(ServerError):
    """The server does not respond, or not in time."""


class UnauthorizedError(ServerError):
    """The server requires a token, or rejects the given one."""

    http_status = 401


class DecodeError(MMSearchError):
    """One picture cannot be read; the reason is recorded and the run goes on.

    The detail ``transient=True`` means that a retry may succeed on the same file.
    """

    exit_code = 3
    http_status = 422


_FREE_SPACE_HINT = "Committed data is safe; free some space and run the command again."
_MESSAGES = {
    errno.ENOSPC: ("The disk is full{where}.", _FREE_SPACE_HINT),
    errno.EDQUOT: ("The disk quota is used up{where}.", _FREE_SPACE_HINT),
    errno.EROFS: (
        "The index cannot be written{where}: its file system is read-only.",
        "Mount it for writing, or copy the index elsewhere.",
    ),
    errno.EMFILE: (
        "This process has too many open files{where}.",
        "Raise its limit, for example with 'ulimit -n 4096'.",
    ),
    errno.ENFILE: (
        "This machine has too many open files{where}.",
        "Close other programs, or raise the limit fs.file-max.",
    ),
    errno.ENOMEM: ("This machine is out of memory{where}.", "Close other programs."),
    errno.EIO: (
        "The disk fails to read or write{where}.",
        "Check the system log, and copy readable data to another disk.",
    ),
}
_DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_CHECK_LOG_HINT = "Check the disk and the system log, and try again."
_PERMISSIONS_HINT = "Check the permissions of the file and of the folders above it."


def describe_os_error(error: OSError | MemoryError) -> tuple[str, str]:
    """Return a sentence for an operating system error, and one for the next step.

    Args:
        error: The error. The sentence includes its file name if it has one.
    """
    if isinstance(error, MemoryError):
        return _MESSAGES[errno.ENOMEM][0].format(where=""), _MESSAGES[errno.ENOMEM][1]
    name = error.filename
    where = f" ({display_path(name)})" if isinstance(name, str | bytes) and name else ""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Permission denied{where}.", _PERMISSIONS_HINT
    if error.errno in _MESSAGES:
        message, hint = _MESSAGES[error.errno]
        return message.format(where=where), hint
    return f"{error.strerror or str(error) or type(error).__name__}{where}.", _CHECK_LOG_HINT


def to_storage_error(error: BaseException) -> MMSearchError | None:
    """Return the `StorageError` for an operating system error; None for other errors.

    Args:
        error: Any error. Only an `OSError` or a `MemoryError` is translated.
    """
    if not isinstance(error, OSError | MemoryError):
        return None
    error_number = getattr(error, "errno", None)
    error_class = DiskFullError if error_number in _DISK_FULL_ERRNOS else StorageError
    return error_class(*describe_os_error(error), errno=error_number)


@contextmanager
def translate_os_errors() -> Iterator[None]:
    """Translate an `OSError` or a `MemoryError` to a `StorageError`.

    Raises:
        StorageError: The operating system reported an error; the detail ``errno`` is its number.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        translated = to_storage_error(error)
        if translated is None:
            raise
        raise translated from error
