"""Standard streams that tolerate closed descriptors, full disks, closed pipes and any encoding.

A command completes its work even if its output is lost. At the end it reports the loss, unless the
reader closed a pipe early, as ``head`` does.
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

from mmsearch.cli.errors import EXIT_SKIPPED
from mmsearch.core.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

EXIT_OUTPUT_LOST = 1
"""Exit code of a command whose output was lost."""

_SIZE_VARIABLES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
_SIZE_PATTERN = re.compile(r"[1-9][0-9]{0,3}")


class _ErrorKeepingFile(io.FileIO):
    """A file descriptor that keeps the error of a failed write instead of raising it.

    Attributes:
        error: The error of the first failed write. Everything after that write is dropped.
    """

    error: OSError | None = None

    def write(self, content: ReadableBuffer, /) -> int:
        """Write all bytes, waiting if the descriptor is non-blocking."""
        remaining = memoryview(content).cast("B")
        size = len(remaining)
        while remaining and self.error is None:
            try:
                written = super().write(remaining)
                if written is None:
                    select.select([], [self], [])
            except OSError as error:
                self.error = error
            else:
                remaining = remaining[written or 0 :]
        return size


class SafeTextStream(io.TextIOWrapper):
    """Standard output or error. Writing never fails, whatever the encoding or the descriptor."""

    def __init__(self, fd: int, template: TextIO | None = None) -> None:
        """Create the stream.

        Args:
            fd: File descriptor to write to.
            template: Stream whose encoding, error handler and buffering are used; None for UTF-8.
        """
        self._descriptor = _ErrorKeepingFile(fd, "wb", closefd=False)
        is_unbuffered = getattr(template, "write_through", False)
        errors = template.errors if template is not None else None
        super().__init__(
            self._descriptor if is_unbuffered else io.BufferedWriter(self._descriptor),
            encoding=template.encoding if template is not None else "utf-8",
            # Escape characters that the encoding lacks, unless the user chose another handler.
            errors=errors if errors in ("replace", "ignore") else "backslashreplace",
            newline="\n",
            line_buffering=getattr(template, "line_buffering", True),
            write_through=is_unbuffered,
        )

    @property
    def error(self) -> OSError | None:
        """The error of the first failed write; None if every write succeeded."""
        return self._descriptor.error


def install_streams() -> None:
    """Replace the standard streams with ones that exist and never fail.

    A closed descriptor is opened on the null device before another file gets its number. Invalid
    terminal sizes are removed from the environment.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # `os.open` returns the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python sets a stream to None if its descriptor was closed.
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it stays open
    sys.stdout = _make_stream(1, sys.stdout)
    sys.stderr = _make_stream(2, sys.stderr)
    for name in _SIZE_VARIABLES:
        if not _SIZE_PATTERN.fullmatch(os.environ.get(name, "1")):
            del os.environ[name]


def quiet_libraries() -> None:
    """Keep log messages and warnings of libraries off standard error.

    If $MMSEARCH_TRACEBACK is set, they are shown. A server still logs its own errors.
    """
    import logging

    if os.environ.get("MMSEARCH_TRACEBACK"):
        return
    logging.disable(logging.WARNING)
    # Without any handler, Python writes errors to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def has_failed(stream: TextIO) -> bool:
    """Return True if a write to a stream has failed, so that long work can stop early."""
    return isinstance(stream, SafeTextStream) and stream.error is not None


def flush_streams(code: int) -> int:
    """Flush the standard streams, and report lost standard output on stderr.

    Args:
        code: The exit code of the command.

    Returns:
        The exit code of the process.
    """
    failed = False
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        error = stream.error if isinstance(stream, SafeTextStream) else None
        # A reader may close a pipe early, which is not an error.
        if error is None or isinstance(error, BrokenPipeError):
            continue
        failed = True
        if stream is sys.stdout:
            sys.stderr.write(f"Error: {OutputError.from_os_error(error)}\n")
    return EXIT_OUTPUT_LOST if failed and code in (0, EXIT_SKIPPED) else code


def _make_stream(fd: int, stream: TextIO | None) -> TextIO:
    if stream is None:
        return SafeTextStream(os.open(os.devnull, os.O_RDWR))
    if os.name == "nt" and isinstance(stream, io.TextIOWrapper):
        # A Windows console is not an ordinary file descriptor.
        stream.reconfigure(errors="backslashreplace")
        return stream
    return SafeTextStream(fd, stream)
