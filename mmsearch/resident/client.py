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
    ACK,
    FORWARDED_VARIABLES,
    CommandRequest,
    StreamInfo,
    build_compatibility_key,
    is_private,
    is_same_user,
    is_supported,
    receive,
    receive_header,
    send,
    socket_path,
)

ACK_TIMEOUT_S = 0.5
"""Of a process that is busy or stands still, no more is expected: the command does it itself."""

REPLY_TIMEOUT_S = 60.0
"""After so many seconds the command does it itself, though the process has taken it up."""

OutputChunks = list[tuple[int, bytes]]
"""What to write, in this order: a file descriptor (1 or 2), and bytes."""


def forward_command(
    index: Path, settings: Settings, arguments: Sequence[str]
) -> OutputChunks | None:
    """Let the process that serves an index answer.

    Args:
        index: The index's folder.
        settings: Of the command.
        arguments: Of the command.

    Returns:
        What the command would have printed; None if it must do the work itself: nobody serves this
        index with the same code and settings, or it did not end well.
    """
    if not is_supported():
        return None
    path = socket_path(index)
    if not is_private(path.parent):
        return None
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ACK_TIMEOUT_S)
            connection.connect(str(path))
            if not is_same_user(connection):
                return None
            send(connection, _make_request(index, settings, arguments))
            if receive(connection, 1) != ACK:
                return None
            connection.settimeout(REPLY_TIMEOUT_S)
            header = receive_header(connection)
            return [(fd, receive(connection, size)) for fd, size in header["printed"]]
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _make_request(index: Path, settings: Settings, arguments: Sequence[str]) -> CommandRequest:
    environment = {name: os.environ[name] for name in FORWARDED_VARIABLES if name in os.environ}
    return CommandRequest(
        build_compatibility_key(index, settings),
        list(arguments),
        os.getcwd(),  # noqa: PTH109 - a string, as it will travel
        _terminal_size_variables() | environment,
        _stream_info(sys.stdout),
        _stream_info(sys.stderr),
    )


def _terminal_size_variables() -> dict[str, str]:
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


def _stream_info(stream: TextIO) -> StreamInfo:
    return StreamInfo(stream.isatty(), stream.encoding, stream.errors or "strict")
