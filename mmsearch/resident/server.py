"""The side of the process that stays: one call after the other, of its own user only."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from mmsearch.core.errors import NoCallsError, StateError
from mmsearch.core.settings import Settings
from mmsearch.resident.protocol import (
    TAKEN_UP,
    Call,
    Stream,
    identity_of,
    is_own_user,
    is_possible,
    is_private,
    receive_header,
    send,
    socket_path,
)
from mmsearch.resident.shutdown import StoppedError, signals_raise

SPEAKS_WITHIN_S = 5.0
"""A caller that neither says nor takes anything for so long is left."""

Answer = Callable[[Call], list[tuple[int, bytes]] | None]
"""A call -> what to write to which stream; None: the caller shall do it itself."""


def serve(
    index: Path,
    settings: Settings,
    answer: Answer,
    *,
    idle_s: float | None = None,
    ready: Callable[[], None] = lambda: None,
) -> int | None:
    """Answer calls until a signal comes, or nobody calls for a while.

    Only in the main thread, for signals are its own.

    Args:
        index: The index's folder.
        settings: With which answers are made.
        answer: Makes them.
        idle_s: How long to wait for a call before the end; None: for ever.
        ready: Called when calls are taken.

    Returns:
        The signal that ended it; None: nobody called.

    Raises:
        NoCallsError: This system has no such sockets, or another process serves the index.
        StateError: The runtime folder is not the user's own.
    """
    if not is_possible():
        raise NoCallsError(
            "A process that stays needs Unix domain sockets, which this system does not have.",
            "Queries work without it.",
        )
    mine = identity_of(index, settings)
    path = socket_path(index)
    _make_private(path.parent)
    with _only_one(path, index), _listening(path) as listener, signals_raise() as came:
        listener.settimeout(idle_s)
        try:
            ready()
            while not came:
                _next_call(listener, mine, answer)
        except TimeoutError:
            return None
        except StoppedError as stopped:
            return stopped.number
        return came[0]


def wait_for_signal() -> int:
    """Stay until a signal comes, and say which; only in the main thread."""
    with signals_raise():
        try:
            while True:
                time.sleep(3600)
        except StoppedError as stopped:
            return stopped.number


def _next_call(listener: socket.socket, mine: dict[str, str], answer: Answer) -> None:
    connection, _ = listener.accept()
    with connection, suppress(ConnectionError, EOFError):
        connection.settimeout(SPEAKS_WITHIN_S)
        with suppress(TimeoutError):
            if not is_own_user(connection):
                return
            call = _read_call(connection)
            if call is None or call.identity != mine:
                return
            connection.sendall(TAKEN_UP)
            printed = answer(call)
            if printed is None:
                return
            sizes = [(stream, len(content)) for stream, content in printed]
            send(connection, {"printed": sizes}, b"".join(content for _, content in printed))


def _read_call(connection: socket.socket) -> Call | None:
    try:
        identity, arguments, folder, environment, output, error = receive_header(connection)
        return Call(identity, arguments, folder, environment, Stream(*output), Stream(*error))
    except (ValueError, TypeError):
        return None


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(folder):
        raise StateError(f"{folder} is open to others.", f"Make it your own: chmod 700 {folder}")


@contextmanager
def _only_one(path: Path, index: Path) -> Iterator[None]:
    """The lock is the kernel's: it goes with the process, however that ends."""
    lock = filelock.FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise NoCallsError(
            f"Another process serves index {index.name!r} already.",
            "Queries use it by themselves.",
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    # Whoever holds the lock may take away what a killed process has left.
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
