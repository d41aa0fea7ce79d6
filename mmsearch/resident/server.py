"""Server side of the resident process: one call at a time, from its own user only."""

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
"""Seconds without progress in sending or receiving after which a caller is dropped."""

CommandHandler = Callable[[CommandRequest], list[tuple[int, bytes]] | None]
"""Function that runs a command and returns its output; None if the caller must run it."""


def serve(
    index: Path,
    settings: Settings,
    handle_request: CommandHandler,
    *,
    idle_s: float | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> int | None:
    """Answer calls until a signal arrives or the idle timeout passes.

    Call it in the main thread only, because only that thread receives signals.

    Args:
        index: Folder of the index.
        settings: Settings of the process; commands with other settings are not answered.
        handle_request: Function that answers a call.
        idle_s: Idle timeout in seconds; None to wait without limit.
        on_ready: Called once calls are accepted.

    Returns:
        The signal that ended it; None after the idle timeout.

    Raises:
        LocalSocketError: The system lacks Unix domain sockets, or another process serves the
            index.
        StateError: Other users have access to the runtime folder.
    """
    if not is_supported():
        raise LocalSocketError(
            "A resident process needs Unix domain sockets, which this system does not have.",
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
    """Block until a signal arrives and return it; use it in the main thread only."""
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
        raise StateError(
            f"{folder} is accessible to other users.", f"Restrict it with: chmod 700 {folder}"
        )


@contextmanager
def _exclusive_lock(path: Path, index: Path) -> Iterator[None]:
    """Hold the lock of an index; the kernel releases it however the process ends."""
    lock = filelock.FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LocalSocketError(
            f"Another process already serves index {index.name!r}.",
            "Queries use it automatically.",
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _listen(path: Path) -> Iterator[socket.socket]:
    # The holder of the lock may remove the socket that a killed process has left.
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
