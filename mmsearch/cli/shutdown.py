"""Shutdown of a long-running process: a signal ends it in time, whatever its threads do."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SHUTDOWN_TIMEOUT_S = 4.0
"""Seconds from a signal to the end of the process."""

INPUT_SHUTDOWN_TIMEOUT_S = 10.0
"""Seconds from the end of the input to the end of the process, to answer received calls."""

POLL_INTERVAL_S = 0.2

EXIT_UNFINISHED = 1
"""Exit code after SIGTERM if the process had to abandon work; after SIGINT it is 130."""

UNFINISHED_MESSAGE = b"Something did not end in time and was left; what was committed is safe.\n"


class ShutdownSignalError(BaseException):
    """Raised on a signal; a BaseException, so that no handler takes it for an ordinary error."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raise ShutdownSignalError in the main thread when SIGINT or SIGTERM arrives."""

    def handle_signal(signum: int, frame: FrameType | None) -> None:
        raise ShutdownSignalError(signum)

    previous_handlers = {
        signum: signal.signal(signum, handle_signal) for signum in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)


@contextmanager
def enforce_shutdown_timeout(drain_s: float = 0.0) -> Iterator[None]:
    """End the process `SHUTDOWN_TIMEOUT_S` after a signal, even if its threads do not end.

    Use it in the main thread only, for signals that have a handler. The main thread may be busy, so
    a separate thread reads what C code writes when a signal arrives (`signal.set_wakeup_fd`).

    Args:
        drain_s: Further seconds after a first SIGTERM, in which a server goes on answering.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(
        target=_watch_signals, args=(reader, drain_s), name="mmsearch-shutdown", daemon=True
    ).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        writer.close()


def _watch_signals(reader: socket.socket, drain_s: float) -> None:
    end_s, last = math.inf, 0
    with reader:
        while time.monotonic() < end_s:
            reader.settimeout(None if last == 0 else max(end_s - time.monotonic(), 0.01))
            try:
                received = reader.recv(64)
            except TimeoutError:
                continue
            if not received:
                return
            for signum in received:
                if signum in (signal.SIGINT, signal.SIGTERM):
                    grace_s = drain_s if signum == signal.SIGTERM and last == 0 else 0.0
                    end_s = min(end_s, time.monotonic() + grace_s + SHUTDOWN_TIMEOUT_S)
                    last = signum
    exit_now(128 + last if last == signal.SIGINT else EXIT_UNFINISHED)


def exit_now(code: int, message: bytes = UNFINISHED_MESSAGE) -> None:
    """End this process and its worker processes at once, with a message on stderr."""
    with suppress(OSError):
        os.write(2, message)
    kill_workers()
    os._exit(code)


def kill_workers() -> None:
    """Kill the worker processes of this process."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is None:
        return
    # Another thread may start or end a worker meanwhile.
    with suppress(RuntimeError):
        for worker in processes.active_children():
            with suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)


def exit_after_input(descriptor: int) -> None:
    """End the process `INPUT_SHUTDOWN_TIMEOUT_S` after the pipe that it reads ends.

    Args:
        descriptor: File descriptor of the pipe; the reader may close it.
    """
    if not hasattr(select, "poll"):
        return
    threading.Thread(
        target=_wait_for_input_end, args=(os.dup(descriptor),), name="mmsearch-input", daemon=True
    ).start()


def _wait_for_input_end(descriptor: int) -> None:
    hangup_poll = select.poll()
    # `poll` always reports a hang-up; readable data is not requested here.
    hangup_poll.register(descriptor, 0)
    hangup_poll.poll()
    readable_poll = select.poll()
    readable_poll.register(descriptor, select.POLLIN)
    while any(event & select.POLLIN for _, event in readable_poll.poll(0)):
        time.sleep(POLL_INTERVAL_S)
    time.sleep(INPUT_SHUTDOWN_TIMEOUT_S)
    exit_now(EXIT_UNFINISHED)
