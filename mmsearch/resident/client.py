"""Client of the resident process that serves an index."""

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
"""Seconds to wait for the process to accept a command before the command runs locally."""

REPLY_TIMEOUT_S = 60.0
"""Seconds to wait for the output of an accepted command before the command runs locally."""

OutputChunks = list[tuple[int, bytes]]
"""Writes to replay in order: a file descriptor (1 or 2) and the bytes of each."""


def forward_command(
    index: Path, settings: Settings, arguments: Sequence[str]
) -> OutputChunks | None:
    """Forward a command to the process that serves its index.

    Args:
        index: Folder of the index.
        settings: Settings of the command.
        arguments: Arguments of the command.

    Returns:
        The output of the command; None if it must run locally, because no process serves this index
        with the same code and settings, or because the command failed there.
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
        os.getcwd(),  # noqa: PTH109 - sent as a string
        _terminal_size_variables() | environment,
        _stream_info(sys.stdout),
        _stream_info(sys.stderr),
    )


def _terminal_size_variables() -> dict[str, str]:
    """Return the size of the first standard stream that is a terminal, so that tables fit it.

    Some terminals report zero columns; they get the size that the command would assume.
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
