"""The end of a process that stays: a signal ends it in time, whatever its threads do."""

from __future__ import annotations

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

ENDS_WITHIN_S = 4.0
"""Seconds from a signal to the end of the process."""

INPUT_ENDS_WITHIN_S = 10.0
"""Seconds from the end of the input to that of the process: calls that came are answered."""

LOOK_EVERY_S = 0.2

NOT_FINISHED = 1
"""The exit code after SIGTERM if the process had to leave work; after SIGINT it is 130."""

LEFT = b"Something did not end in time and was left; what was committed is safe.\n"


class StoppedError(BaseException):
    """A signal has come: no answer may take it for a failure of its own."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def signals_raise() -> Iterator[list[int]]:
    """Raise StoppedError in the main thread when SIGINT or SIGTERM comes.

    Yields:
        The signals that came: C code that calls Python, such as SQLite, may swallow the exception.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise StoppedError(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ends_in_time() -> Iterator[None]:
    """End the process `ENDS_WITHIN_S` after a signal, also if its threads do not end.

    Only in the main thread, and for signals that have a handler. The main thread may be busy: a
    thread of its own reads what C code writes when a signal comes (`signal.set_wakeup_fd`).
    """
    numbers, wakes = socket.socketpair()
    wakes.setblocking(False)
    before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    threading.Thread(
        target=_wait_for_signal, args=(numbers,), name="mmsearch-shutdown", daemon=True
    ).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        wakes.close()


def _wait_for_signal(numbers: socket.socket) -> None:
    with numbers:
        while received := numbers.recv(64):
            for number in received:
                if number in (signal.SIGINT, signal.SIGTERM):
                    time.sleep(ENDS_WITHIN_S)
                    end_now(128 + number if number == signal.SIGINT else NOT_FINISHED)


def end_now(code: int, said: bytes = LEFT) -> None:
    """End this process and its worker processes, whatever they do."""
    with suppress(OSError):
        os.write(2, said)
    kill_workers()
    os._exit(code)


def kill_workers() -> None:
    """Kill the worker processes of this process."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is None:
        return
    # Another thread may start or end one meanwhile.
    with suppress(RuntimeError):
        for worker in processes.active_children():
            with suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)


def end_after_input(descriptor: int) -> None:
    """End the process `INPUT_ENDS_WITHIN_S` after the end of a pipe that it reads.

    Args:
        descriptor: Of the pipe; whoever reads it may close it.
    """
    if not hasattr(select, "poll"):
        return
    threading.Thread(
        target=_wait_for_end, args=(os.dup(descriptor),), name="mmsearch-input", daemon=True
    ).start()


def _wait_for_end(descriptor: int) -> None:
    hangs_up = select.poll()
    # A hang-up is always told; what can be read is not asked for.
    hangs_up.register(descriptor, 0)
    hangs_up.poll()
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    while any(event & select.POLLIN for _, event in readable.poll(0)):
        time.sleep(LOOK_EVERY_S)
    time.sleep(INPUT_ENDS_WITHIN_S)
    end_now(NOT_FINISHED)
