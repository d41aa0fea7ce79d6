"""Messages for operating system errors: disk full, permission denied, too many open files."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

from mmsearch.core.display import display_path
from mmsearch.core.errors import DiskFullError, MMSearchError, StorageError

Kind = TypeVar("Kind")

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


def translate_method_os_errors(decorated: type[Kind]) -> type[Kind]:
    """Apply `translate_os_errors` to all public methods of a class, including inherited ones."""
    for name in dir(decorated):
        method = getattr(decorated, name)
        if not name.startswith("_") and isinstance(method, FunctionType):
            setattr(decorated, name, _translate_method_errors(method))
    return decorated


def _translate_method_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with translate_os_errors():
            return method(*args, **kwargs)

    return wrapper
