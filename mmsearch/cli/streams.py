"""Standard streams that work whatever they are: closed, full, without a reader, in any encoding.

A command does its work even if its output is lost. It says at the end that output was lost, unless
the reader of a pipe simply left, as ``head`` does.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mmsearch.cli.errors import SKIPPED
from mmsearch.core.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

INCOMPLETE = 1
"""Exit code of a command whose output was lost."""

_SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
_SIZE = re.compile(r"[1-9][0-9]{0,3}")


class _Descriptor(io.FileIO):
    """A file descriptor that keeps the error of a failed write instead of raising it.

    Attributes:
        error: The error of the first failed write. Everything after that write is dropped.
    """

    error: OSError | None = None

    def write(self, content: ReadableBuffer, /) -> int:
        """Write all bytes; wait where a descriptor does not block."""
        left = memoryview(content).cast("B")
        size = len(left)
        while left and self.error is None:
            try:
                written = super().write(left)
                if written is None:
                    select.select([], [self], [])
            except OSError as error:
                self.error = error
            else:
                left = left[written or 0 :]
        return size


class Output(io.TextIOWrapper):
    """Standard output or error. Writing never fails, whatever the encoding or the descriptor."""

    def __init__(self, number: int, like: TextIO | None = None) -> None:
        """Make the stream.

        Args:
            number: Its file descriptor.
            like: A stream with the same encoding, error handler and buffering; None: UTF-8.
        """
        self._descriptor = _Descriptor(number, "wb", closefd=False)
        is_unbuffered = getattr(like, "write_through", False)
        errors = like.errors if like is not None else None
        super().__init__(
            self._descriptor if is_unbuffered else io.BufferedWriter(self._descriptor),
            encoding=like.encoding if like is not None else "utf-8",
            # Characters that the encoding lacks are escaped, unless the user chose otherwise.
            errors=errors if errors in ("replace", "ignore") else "backslashreplace",
            newline="\n",
            line_buffering=getattr(like, "line_buffering", True),
            write_through=is_unbuffered,
        )

    @property
    def error(self) -> OSError | None:
        """The error of the first write that failed; None: no write failed."""
        return self._descriptor.error


def prepare() -> None:
    """Replace the standard streams by ones that exist and never fail.

    A closed descriptor becomes the null device before another file gets its number. Sizes of a
    terminal in the environment are removed if they are no sizes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python sets a stream to None if its descriptor was closed.
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it stays open
    sys.stdout = _output(1, sys.stdout)
    sys.stderr = _output(2, sys.stderr)
    for name in _SIZES:
        if not _SIZE.fullmatch(os.environ.get(name, "1")):
            del os.environ[name]


def quiet_libraries() -> None:
    """Keep log lines and warnings of libraries off standard error.

    $MMSEARCH_TRACEBACK leaves them there. A server still logs its own errors.
    """
    import logging

    if os.environ.get("MMSEARCH_TRACEBACK"):
        return
    logging.disable(logging.WARNING)
    # Without any handler, Python writes errors to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def is_lost(stream: TextIO) -> bool:
    """Return whether a write to a stream has failed, so that long work may stop."""
    return isinstance(stream, Output) and stream.error is not None


def finish(code: int) -> int:
    """Write what is left in the streams, and say on stderr if standard output was lost.

    Args:
        code: The exit code of the command.

    Returns:
        The exit code of the process.
    """
    failed = False
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        error = stream.error if isinstance(stream, Output) else None
        # The reader of a pipe may leave early.
        if error is None or isinstance(error, BrokenPipeError):
            continue
        failed = True
        if stream is sys.stdout:
            sys.stderr.write(f"Error: {OutputError.of(error)}\n")
    return INCOMPLETE if failed and code in (0, SKIPPED) else code


def _output(number: int, stream: TextIO | None) -> TextIO:
    if stream is None:
        return Output(os.open(os.devnull, os.O_RDWR))
    if os.name == "nt" and isinstance(stream, io.TextIOWrapper):
        # A console of Windows is no file descriptor.
        stream.reconfigure(errors="backslashreplace")
        return stream
    return Output(number, stream)
