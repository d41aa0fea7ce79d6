"""Every error that mmsearch raises on purpose.

::

    MMSearchError                      a sentence, a hint, an exit code, an HTTP status
    ├── UsageError               2     the request cannot be meant
    │   ├── InvalidQueryError          empty query, k below one
    │   ├── UnknownIndexError          no index of that name
    │   ├── UnknownNameError           no plugin, model, root or setting of that name
    │   └── SourceError                the folder or file to index or to query with cannot be used
    ├── StateError               1     the index is not in a state that allows this
    │   ├── IndexLockedError           another writer is at work
    │   ├── EncoderMismatchError       the index belongs to another encoder
    │   ├── NoCallsError               no calls of the command line can be answered here
    │   ├── SchemaError                the catalog is of a newer mmsearch
    │   ├── InspectionError      4     whether the index is damaged could not be found out
    │   ├── DamagedFileError           a file of the index does not match its checksum
    │   └── StorageError               the operating system refuses to read, write or allocate
    │       └── DiskFullError          there is no room left
    ├── ModelUnavailableError    1     weights are not on this machine and cannot be fetched
    ├── MissingExtraError        1     an optional library is not installed
    ├── VectorError              1     an array is not what the seam asks for
    │   ├── DimensionError             wrong number of columns
    │   └── IndexLimitError            the vector index cannot serve so many neighbours
    ├── GoneError                1     the file of a picture is not what was indexed
    ├── BusyError                1     more calls wait than will be answered in reasonable time
    │   └── DeadlineError              a call took longer than it may
    ├── DeviceMemoryError        1     the memory of a GPU does not suffice, even for one item
    ├── OutputError              1     standard output cannot be written
    ├── ForbiddenError           1     the rules of a server do not allow it
    ├── ServerError              1     a server does not answer as it should
    │   ├── UnreachableError           nobody answers there
    │   └── UnauthorizedError          it asks for a token, or for another one
    └── DecodeError              3     ONE picture cannot be read; recorded, the run goes on
"""

from __future__ import annotations

from typing import ClassVar


class MMSearchError(Exception):
    """An error whose text may be shown to the user as it stands.

    Args:
        message: One sentence: what is wrong with which input.
        hint: What to do next; may be empty.
        **facts: The values behind the sentence, for programs.
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


class UsageError(MMSearchError):
    """The request cannot be meant as it was made."""

    exit_code = 2
    http_status = 400


class InvalidQueryError(UsageError):
    """The query asks for nothing."""


class UnknownIndexError(UsageError):
    """There is no index of that name."""

    http_status = 404


class UnknownNameError(UsageError):
    """There is no plugin, model, root or setting of that name."""

    http_status = 404


class SourceError(UsageError):
    """A folder or a file that was named cannot be used."""


class StateError(MMSearchError):
    """The index is not in a state that allows this."""

    http_status = 409


class IndexLockedError(StateError):
    """Another writer holds the index."""


class LocalSocketError(StateError):
    """This process cannot answer calls of the command line."""


class EncoderMismatchError(StateError):
    """The index was built with another encoder."""


class SchemaError(StateError):
    """The catalog was written by a newer mmsearch."""


class InspectionError(StateError):
    """The index could not be checked for damage; nothing was changed."""

    exit_code = 4
    http_status = 503


class DamagedFileError(StateError):
    """A file of the index is proved to be damaged: by a checksum, or by a contradiction."""

    http_status = 500


class StorageError(StateError):
    """The operating system refuses to read, to write or to allocate; nothing is proved damaged.

    The fact ``errno`` is the number of its error, where that is known.
    """

    http_status = 503


class DiskFullError(StorageError):
    """There is no room left on a disk, or in a quota."""

    http_status = 507


class ModelUnavailableError(MMSearchError):
    """A model's weights are not here and cannot be fetched."""

    http_status = 503


class MissingExtraError(MMSearchError):
    """A part needs a library that is not installed."""

    http_status = 501


class VectorError(MMSearchError):
    """An array is not what the seam asks for."""


class DimensionError(VectorError):
    """Vectors of another number of columns than expected."""

    http_status = 400


class IndexLimitError(VectorError):
    """The vector index cannot return so many neighbours."""

    http_status = 400


class GoneError(MMSearchError):
    """The file of a picture is not what was indexed."""

    http_status = 410


class BusyError(MMSearchError):
    """More calls wait than will be answered in reasonable time."""

    http_status = 503


class DeadlineError(BusyError):
    """A call took longer than it may."""


class ForbiddenError(MMSearchError):
    """The rules of a server do not allow it."""

    http_status = 403


class OutputError(MMSearchError):
    """Standard output cannot be written."""

    @classmethod
    def from_os_error(cls, error: OSError) -> OutputError:
        """Return the error for a failed write."""
        return cls(
            f"Standard output cannot be written: {error.strerror or error}.",
            "Send it to another place and run the command again.",
        )


class DeviceMemoryError(MMSearchError):
    """The memory of a device does not suffice, even for one item; others may use it, too.

    The fact ``device`` is its name.
    """

    http_status = 503


class ServerError(MMSearchError):
    """A server refuses, or its answer is none.

    The fact ``status`` is that of its response, ``kind`` the name that it gives the error.
    """

    http_status = 502


class UnreachableError(ServerError):
    """Nobody answers there, or not in time."""


class UnauthorizedError(ServerError):
    """The server asks for a token, or for another one."""

    http_status = 401


class DecodeError(MMSearchError):
    """One picture cannot be read; the reason is recorded and the run goes on.

    The fact ``transient=True`` says that another attempt may go well on the same file.
    """

    exit_code = 3
    http_status = 422
