"""The side of the process that stays: one call after the other, of its own user only."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from mmsearch.core.errors import LocalSocketError, StateError
from mmsearch.core.settings import Settings
from mmsearch.resident.protocol import (
    ACK,
    CommandRequest,
    StreamInfo,
    build_compatibility_key,
    is_private,
    is_same_user,
    is_supported,
    receive_header,
    send,
    socket_path,
)
from mmsearch.resident.shutdown import ShutdownSignalError, raise_on_signal

READ_TIMEOUT_S = 5.0
"""A caller that neither says nor takes anything for so long is left."""

CommandHandler = Callable[[CommandRequest], list[tuple[int, bytes]] | None]
"""A call -> what to write to which stream; None: the caller shall do it itself."""


def serve(
    index: Path,
    settings: Settings,
    handle_request: CommandHandler,
    *,
    idle_s: float | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> int | None:
    """Answer calls until a signal comes, or nobody calls for a while.

    Only in the main thread, for signals are its own.

    Args:
        index: The index's folder.
        settings: With which answers are made.
        handle_request: Makes them.
        idle_s: How long to wait for a call before the end; None: for ever.
        on_ready: Called when calls are taken.

    Returns:
        The signal that ended it; None: nobody called.

    Raises:
        LocalSocketError: This system has no such sockets, or another process serves the index.
        StateError: The runtime folder is not the user's own.
    """
    if not is_supported():
        raise LocalSocketError(
            "A process that stays needs Unix domain sockets, which this system does not have.",
            "Queries work without it.",
        )
    own_key = build_compatibility_key(index, settings)
    path = socket_path(index)
    _ensure_private_folder(path.parent)
    with (
        _exclusive_lock(path, index),
        _listen(path) as listener,
        raise_on_signal() as received_signals,
    ):
        listener.settimeout(idle_s)
        try:
            on_ready()
            while not received_signals:
                _serve_connection(listener, own_key, handle_request)
        except TimeoutError:
            return None
        except ShutdownSignalError as error:
            return error.signum
        return received_signals[0]


def wait_for_signal() -> int:
    """Stay until a signal comes, and say which; only in the main thread."""
    with raise_on_signal():
        try:
            while True:
                time.sleep(3600)
        except ShutdownSignalError as error:
            return error.signum


def _serve_connection(
    listener: socket.socket, own_key: dict[str, str], handle_request: CommandHandler
) -> None:
    connection, _ = listener.accept()
    with connection, suppress(ConnectionError, EOFError):
        connection.settimeout(READ_TIMEOUT_S)
        with suppress(TimeoutError):
            if not is_same_user(connection):
                return
            request = _read_request(connection)
            if request is None or request.compatibility_key != own_key:
                return
            connection.sendall(ACK)
            chunks = handle_request(request)
            if chunks is None:
                return
            sizes = [(fd, len(content)) for fd, content in chunks]
            send(connection, {"printed": sizes}, b"".join(content for _, content in chunks))


def _read_request(connection: socket.socket) -> CommandRequest | None:
    try:
        compatibility_key, arguments, cwd, environment, stdout, stderr = receive_header(connection)
        return CommandRequest(
            compatibility_key, arguments, cwd, environment, StreamInfo(*stdout), StreamInfo(*stderr)
        )
    except (ValueError, TypeError):
        return None


def _ensure_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(folder):
        raise StateError(f"{folder} is open to others.", f"Make it your own: chmod 700 {folder}")


@contextmanager
def _exclusive_lock(path: Path, index: Path) -> Iterator[None]:
    """The lock is the kernel's: it goes with the process, however that ends."""
    lock = filelock.FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LocalSocketError(
            f"Another process serves index {index.name!r} already.",
            "Queries use it by themselves.",
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _listen(path: Path) -> Iterator[socket.socket]:
    # Whoever holds the lock may take away what a killed process has left.
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        previous_umask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous_umask)
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
