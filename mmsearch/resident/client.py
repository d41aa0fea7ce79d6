"""The side of the command: it asks the process that serves an index, if there is one."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from mmsearch.core.settings import Settings
from mmsearch.resident.protocol import (
    ENVIRONMENT,
    TAKEN_UP,
    Call,
    Stream,
    identity_of,
    is_own_user,
    is_possible,
    is_private,
    receive,
    receive_header,
    send,
    socket_path,
)

TAKEN_UP_WITHIN_S = 0.5
"""Of a process that is busy or stands still, no more is expected: the command does it itself."""

ANSWERED_WITHIN_S = 60.0
"""After so many seconds the command does it itself, though the process has taken it up."""

Printed = list[tuple[int, bytes]]
"""What to write, in this order: a file descriptor (1 or 2), and bytes."""


def ask(index: Path, settings: Settings, arguments: Sequence[str]) -> Printed | None:
    """Let the process that serves an index answer.

    Args:
        index: The index's folder.
        settings: Of the command.
        arguments: Of the command.

    Returns:
        What the command would have printed; None if it must do the work itself: nobody serves this
        index with the same code and settings, or it did not end well.
    """
    if not is_possible():
        return None
    path = socket_path(index)
    if not is_private(path.parent):
        return None
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TAKEN_UP_WITHIN_S)
            connection.connect(str(path))
            if not is_own_user(connection):
                return None
            send(connection, _call(index, settings, arguments))
            if receive(connection, 1) != TAKEN_UP:
                return None
            connection.settimeout(ANSWERED_WITHIN_S)
            header = receive_header(connection)
            return [(stream, receive(connection, size)) for stream, size in header["printed"]]
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _call(index: Path, settings: Settings, arguments: Sequence[str]) -> Call:
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return Call(
        identity_of(index, settings),
        list(arguments),
        os.getcwd(),  # noqa: PTH109 - a string, as it will travel
        _terminal_size() | environment,
        _stream(sys.stdout),
        _stream(sys.stderr),
    )


def _terminal_size() -> dict[str, str]:
    """Return the size of the first standard stream that is a terminal: tables are fitted into it.

    Some terminals say that they have no columns; these get the size that the command would assume.
    """
    for stream in (0, 1, 2):
        try:
            columns, lines = os.get_terminal_size(stream)
        except OSError:
            continue
        return {"COLUMNS": str(columns or 80), "LINES": str(lines or 25)}
    return {}


def _stream(stream: TextIO) -> Stream:
    return Stream(stream.isatty(), stream.encoding, stream.errors or "strict")
