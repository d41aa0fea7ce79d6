"""Sentences for what the operating system refuses: no room, no permission, too many open files."""

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

_FREE = "What was committed is safe; free some space and run again."
_SENTENCES = {
    errno.ENOSPC: ("The disk is full{where}.", _FREE),
    errno.EDQUOT: ("The disk quota is used up{where}.", _FREE),
    errno.EROFS: (
        "The index cannot be written{where}: its file system is read-only.",
        "Mount it for writing, or copy the index elsewhere.",
    ),
    errno.EMFILE: (
        "This process has too many open files{where}.",
        "Raise its limit, such as by 'ulimit -n 4096'.",
    ),
    errno.ENFILE: (
        "This machine has too many open files{where}.",
        "Close other programs, or raise the limit fs.file-max.",
    ),
    errno.ENOMEM: ("The memory of this machine does not suffice{where}.", "Close other programs."),
    errno.EIO: (
        "The disk fails to read or write{where}.",
        "Look at the system's log; copy what can be read to another disk.",
    ),
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOG = "Look at the disk and at the system's log, and try again."
_PERMISSIONS = "Look at the permissions of the file and of the folders above it."


def sentence_of(error: OSError | MemoryError) -> tuple[str, str]:
    """Return a sentence that says what the operating system refused, and the next step.

    Args:
        error: Its file name is part of the sentence, where it has one.
    """
    if isinstance(error, MemoryError):
        return _SENTENCES[errno.ENOMEM][0].format(where=""), _SENTENCES[errno.ENOMEM][1]
    name = error.filename
    where = f" ({display_path(name)})" if isinstance(name, str | bytes) and name else ""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Permission denied{where}.", _PERMISSIONS
    if error.errno in _SENTENCES:
        sentence, hint = _SENTENCES[error.errno]
        return sentence.format(where=where), hint
    return f"{error.strerror or str(error) or type(error).__name__}{where}.", _LOG


def readable_os_error(error: BaseException) -> MMSearchError | None:
    """Return an error that says what the operating system refused; None for other errors.

    Args:
        error: An `OSError` or a `MemoryError`; others are none of the operating system's.
    """
    if not isinstance(error, OSError | MemoryError):
        return None
    number = getattr(error, "errno", None)
    kind = DiskFullError if number in _FULL else StorageError
    return kind(*sentence_of(error), errno=number)


@contextmanager
def readable_os_errors() -> Iterator[None]:
    """Raise a `StorageError` in the place of an `OSError` or a `MemoryError`.

    Raises:
        StorageError: The operating system refused something; the fact ``errno`` says what.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        readable = readable_os_error(error)
        if readable is None:
            raise
        raise readable from error


def with_readable_os_errors(kind: type[Kind]) -> type[Kind]:
    """Let the public methods of a class, inherited ones too, raise `readable_os_errors`."""
    for name in dir(kind):
        method = getattr(kind, name)
        if not name.startswith("_") and isinstance(method, FunctionType):
            setattr(kind, name, _readable(method))
    return kind


def _readable(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        with readable_os_errors():
            return method(*arguments, **named)

    return call
