"""Sentences for what the operating system refuses: no room, no permission, too many open files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from mmsearch.core.display import display_path
from mmsearch.core.errors import StateError

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
    return f"{error.strerror or str(error) or type(error).__name__}{where}.", ""


@contextmanager
def readable_os_errors() -> Iterator[None]:
    """Raise a `StateError` in the place of an `OSError` or a `MemoryError`.

    Raises:
        StateError: The operating system refused something; the fact ``errno`` says what.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        raise StateError(*sentence_of(error), errno=getattr(error, "errno", None)) from error
